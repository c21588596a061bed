"""The noises of ImageNet-C.

A corruption takes one image, uint8 [H, W, 3], the constant of a severity and a generator, and returns an image
of the same shape.
"""

from functools import lru_cache

import cv2
import numpy as np
from scipy.special import gammainc, gammaln, xlogy

from distill.corruptions.draws import bits, normal


def gaussian_noise(x: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise; its standard `deviation` is a share of the range of grey levels."""
    # The original drops the fraction; OpenCV rounds to the nearest, hence the half.
    return cv2.addWeighted(x, 1, normal(rng, x.shape), 255 * deviation, -0.5, dtype=cv2.CV_8U)


def speckle_noise(x: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise in proportion to the grey level."""
    noise = cv2.multiply(x, normal(rng, x.shape), dtype=cv2.CV_32F)
    return cv2.addWeighted(x, 1, noise, deviation, -0.5, dtype=cv2.CV_8U)


def impulse_noise(x: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Set a share `amount` of all values to black or white, half each; channels are hit independently."""
    draw = bits(rng, x.shape, np.uint16)
    limit = round(amount / 2 * (1 << 16))
    out = np.where(draw < 2 * limit, np.uint8(255), x)
    return np.where(draw < limit, np.uint8(0), out)


@lru_cache(maxsize=8)
def photon_tables(photons: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Prepare Walker's alias method for each grey level: a fair die shows a side, a biased coin may turn it to another.

    Returns:
        Number S of sides; the coin's bias as a threshold [256 * S] on 32-bit draws; grey level that results,
        [256 * S * 2], without and with the turn.
    """
    counts = np.arange(photons)
    sides = 1 << photons.bit_length()
    chance = np.zeros((256, sides))
    means = np.arange(256)[:, None] * (photons / 255)
    chance[:, :photons] = np.exp(xlogy(counts, means) - means - gammaln(counts + 1))
    # As many photons as white has, or more, make white: the upper tail of the distribution.
    chance[:, photons] = gammainc(photons, means[:, 0])
    chance *= sides
    stay, turned = np.ones((256, sides)), np.tile(np.arange(sides), (256, 1))
    level, open_ = np.arange(256), np.ones((256, sides), bool)
    for _ in range(sides - 1):
        small = np.where(open_, chance, np.inf).argmin(1)
        large = np.where(open_, chance, -np.inf).argmax(1)
        stay[level, small] = np.minimum(chance[level, small], 1)
        turned[level, small] = large
        chance[level, large] -= 1 - stay[level, small]
        open_[level, small] = False
    grey = np.minimum(np.arange(sides) / photons, 1) * 255
    grey = np.stack([np.broadcast_to(grey, turned.shape), grey[turned]], axis=-1).astype(np.uint8)
    return sides, np.minimum(stay * 2**32, 2**32 - 1).astype(np.uint32).ravel(), grey.ravel()


def shot_noise(x: np.ndarray, photons: int, rng: np.random.Generator) -> np.ndarray:
    """Count photons: Poisson noise with a mean of `photons` at white."""
    sides, threshold, grey = photon_tables(photons)
    draw = bits(rng, x.shape, np.uint32)
    # The lowest bits of the draw are the die, all of it is the coin: with a bias of their resolution, 2**-26.
    cell = x.astype(np.intp) * sides + (draw & np.uint32(sides - 1))
    return grey.take(2 * cell + (draw >= threshold.take(cell)))
