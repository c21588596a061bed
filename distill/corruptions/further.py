"""Kinds of corruption that no benchmark here holds, for students that train on corrupted images.

All change colours only. A function takes one image, uint8 [H, W, 3], the constant of a severity and a generator, and
returns an image of the same shape, as those of ImageNet-C do.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np


def posterize(x: np.ndarray, bits: int, rng: np.random.Generator) -> np.ndarray:
    """Keep the highest `bits` bits of each grey level."""
    return x & np.uint8(256 - (1 << (8 - bits)))


def hue(x: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Turn the hue by up to `share` of half the circle, in either direction."""
    hsv = cv2.cvtColor(x.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)  # In floats, where the hue has 360 degrees.
    hsv[..., 0] = (hsv[..., 0] + 180 * share * rng.uniform(-1, 1)) % 360
    return cv2.convertScaleAbs(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), alpha=255)


def white_balance(x: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Multiply each channel by a factor; the logarithms of the factors are normal and sum to 0."""
    factors = rng.normal(0, deviation, 3)
    factors = np.exp(factors - factors.mean())
    table = np.minimum(np.arange(256)[:, None] * factors + 0.5, 255)
    return cv2.LUT(x, table.astype(np.uint8)[None])


FURTHER: dict[str, tuple[Callable, Sequence]] = {
    'posterize': (posterize, (5, 4, 3, 2, 1)),
    'hue': (hue, (0.1, 0.2, 0.4, 0.7, 1.0)),
    'white_balance': (white_balance, (0.1, 0.15, 0.2, 0.3, 0.4)),
}
"""Function and constants of severity 1 to 5 by kind."""
