"""Glass blur, equal to the original to the last bit."""

from functools import lru_cache

import cv2
import numpy as np

from distill.corruptions.blurs import gaussian
from distill.corruptions.draws import below

AT_ONCE = 4096
"""Values that are worked out in doubles together: a bound on memory."""


def glass_blur(x: np.ndarray, constants: tuple[float, int, int], rng: np.random.Generator) -> np.ndarray:
    """Blur, displace the pixels at random, and blur again; `constants` = (sigma, reach, iterations)."""
    sigma, reach, _ = constants
    height, width = x.shape[:2]
    (draw,) = glass_draws(rng, height, width, constants)
    return _glass_blur(x, sigma, reach, steps_to_sources(reach, height, width).take(draw))


def glass_draws(rng: np.random.Generator, height: int, width: int, constants: tuple) -> tuple[np.ndarray]:
    """Draw the displacements of `glass_blur` as places in `steps_to_sources`: uint8 [iterations, H - 2R, W - 2R]."""
    _, reach, iterations = constants
    return (below(rng, 4 * reach**2, (iterations, height - 2 * reach, width - 2 * reach)),)


def steps_to_sources(reach: int, height: int, width: int) -> np.ndarray:
    """What each displacement adds to the place of a pixel to find its source, see `_glass_blur`: [4 R²]."""
    dy, dx = np.divmod(np.arange(4 * reach**2), 2 * reach) - np.intp(reach)
    return _to_sources(dy * width + dx, height * width)


def glass_blur_from(x: np.ndarray, sigma: float, reach: int, steps: np.ndarray) -> np.ndarray:
    """Apply glass blur with given displacements.

    The original walks over the pixels from the last row and column to the first and is meant to swap pixel
    (h, w) with (h + dy, w + dx). As both sides of its assignment are views of one array, it copies the second
    onto the first. So an iteration is a map from each pixel to a source: a source that the walk has yet to reach
    holds its old value, one that it has passed holds the value of its own source. All these chains are followed
    at once here, twice as far each time. The result is the original's to the last bit, and so in doubles.

    Args:
        x: Image [H, W, 3], uint8.
        sigma: Of both blurs, in pixels.
        reach: Displacements dy and dx are at least -reach and less than reach.
        steps: For each iteration dy * W + dx of the pixels walked over, those of rows reach + 1 to H - reach and
            columns reach + 1 to W - reach, [iterations, H - 2 * reach, W - 2 * reach].
    """
    return _glass_blur(x, sigma, reach, _to_sources(steps, x.shape[0] * x.shape[1]))


def _to_sources(steps: np.ndarray, count: int) -> np.ndarray:
    """Displacements in an image of `count` pixels, less `count` where the walk has passed the source."""
    return np.where(steps > 0, steps - count, steps)


def _glass_blur(x: np.ndarray, sigma: float, reach: int, steps: np.ndarray) -> np.ndarray:
    height, width = x.shape[:2]
    count = height * width
    walked = slice(reach + 1, height - reach + 1), slice(reach + 1, width - reach + 1)
    # Pixels of four bytes are copied as one number.
    pixels = cv2.cvtColor(exact_gaussian(x, sigma), cv2.COLOR_RGB2RGBA).view(np.uint32).ravel()
    for step in steps:
        # p stands for the value of pixel p after the iteration, count + p for the one before it.
        source = np.arange(count, 2 * count)
        moved = source.reshape(height, width)[walked]
        moved += step
        unknown = np.flatnonzero(source < count)
        while len(unknown):
            found = source.take(source.take(unknown))
            source[unknown] = found
            unknown = unknown.take(np.flatnonzero(found < count))
        pixels = pixels.take(source, mode='wrap')  # Wrapped, count + p is p.
    displaced = pixels.view(np.uint8).reshape(height, width, 4)
    return exact_gaussian(cv2.cvtColor(displaced, cv2.COLOR_RGBA2RGB), sigma)


def exact_gaussian(x: np.ndarray, sigma: float) -> np.ndarray:
    """`gaussian` of an image, uint8 [H, W, 3], to the bit as scikit-image's operations in doubles give it.

    The fraction of a level is dropped, so that a rounding error decides where the sum is a whole level. Single
    precision tells all others; the doubles are worked out for the values that it cannot tell, in scipy's order. An area
    of one level has one answer.
    """
    weights = gaussian_weights(sigma)
    reach = len(weights) // 2
    single = gaussian(x.astype(np.float32), sigma)
    out = single.astype(np.uint8)
    # Both passes round weights, products and sums, each by half a unit of the last of 24 bits at most.
    error = 255 * 2 * (len(weights) + 2) * 2.0**-24
    unsure = np.flatnonzero(cv2.absdiff(single, np.rint(single)) < error)
    if len(unsure) > 4 * error * x.size:  # Twice as many as chance has.
        square = np.ones((len(weights), len(weights)), np.uint8)
        is_flat = (cv2.erode(x, square) == cv2.dilate(x, square)).take(unsure)  # Beyond the edge there is nothing.
        flat, unsure = unsure[is_flat], unsure[~is_flat]
        out.put(flat, _flat_levels(sigma).take(x.take(flat)))
    padded = cv2.copyMakeBorder(x, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    row = padded.shape[1] * 3
    window = row * np.arange(len(weights))[:, None, None] + 3 * np.arange(len(weights))[:, None]
    for start in range(0, len(unsure), AT_ONCE):
        part = unsure[start : start + AT_ONCE]
        around = padded.take(window + part + part // (x.shape[1] * 3) * (row - x.shape[1] * 3)) / 255
        out.put(part, _to_levels(_weighted(_weighted(around, weights), weights)))
    return out


@lru_cache(maxsize=8)
def gaussian_weights(sigma: float) -> np.ndarray:
    """scipy's Gaussian kernel, cut off at 4 `sigma`."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-reach, reach + 1) ** 2)
    return weights / weights.sum()


@lru_cache(maxsize=8)
def _flat_levels(sigma: float) -> np.ndarray:
    """What a Gaussian makes of an area of each grey level, uint8 [256]."""
    weights = gaussian_weights(sigma)
    area = np.broadcast_to(np.arange(256) / 255, (len(weights), len(weights), 256))
    return _to_levels(_weighted(_weighted(area, weights), weights))


def _weighted(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of x [taps, …] times weights over the taps, in the order in which scipy adds them up."""
    middle = len(weights) // 2
    total = x[middle] * weights[middle]
    for tap in range(middle):
        total += (x[tap] + x[-1 - tap]) * weights[tap]
    return total


def _to_levels(x: np.ndarray) -> np.ndarray:
    return np.minimum(x * 255, 255).astype(np.uint8)
