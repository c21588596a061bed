"""Colours of textures, and layers of paint."""

import colorsys

import numpy as np
from PIL import Image

_LUMA = np.array([0.299, 0.587, 0.114])


def colour(hue: float, saturation: float, luma: float) -> np.ndarray:
    """RGB in 0..1 of a hue (in turns) with a given luma; a luma above the hue's own is reached by adding white."""
    rgb = np.array(colorsys.hsv_to_rgb(hue % 1, saturation, 1.0))
    own = rgb @ _LUMA
    if luma <= own:
        return rgb * (luma / own)
    white = (luma - own) / (1 - own)
    return rgb * (1 - white) + white


def colour_pair(rng: np.random.Generator, luma: float, contrast: float, saturation: float) -> np.ndarray:
    """The two colours [2, 3] of a texture: one hue, ``luma`` ± ``contrast``, in random order."""
    hue = rng.random()
    steps = (-contrast, contrast) if rng.random() < 0.5 else (contrast, -contrast)
    return np.stack([colour(hue + rng.uniform(-0.06, 0.06), saturation, luma + step) for step in steps])


def paint(texture: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """Paint a texture [H, W] with two colours [2, 3]; returns RGB [H, W, 3] in 0..1."""
    return pair[0].astype(np.float32) + texture[..., None] * (pair[1] - pair[0]).astype(np.float32)


def over(below: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay ``above`` on ``below``, both RGB [H, W, 3] or one colour [3], with opacity ``alpha`` [H, W]."""
    return below + alpha[..., None] * (above - below)


def to_image(rgb: np.ndarray) -> Image.Image:
    """Turn RGB [H, W, 3] in 0..1 into an 8-bit image."""
    return Image.fromarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))
