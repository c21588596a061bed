"""The blurs of ImageNet-C, and the operations that they share with its other corruptions.

A corruption takes one image, uint8 [H, W, 3], the constants of a severity and a generator, and returns an
image of the same shape. A function that takes the draws in place of a generator is called ``..._from``.
"""

import math
from functools import lru_cache

import cv2
import numpy as np
from scipy.sparse import csr_array

TOLERANCE = 1e-3
"""In grey levels: larger than the rounding errors of float32 here, and far too small to be seen."""


def to_uint8(x: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
    """Turn grey levels in floats into uint8: clip them to [0, 255] and drop the fraction, as the originals do.

    A float32 sum may fall short of a whole number that the originals, in doubles, reach: a white area would turn
    254. Hence the tolerance. OpenCV clips and casts in one pass but rounds to the nearest, hence the half.
    """
    return cv2.add(x.reshape(len(x), -1), tolerance - 0.5, dtype=cv2.CV_8U).reshape(x.shape)


def gaussian(x: np.ndarray, sigma: float) -> np.ndarray:
    """Apply scikit-image's Gaussian filter: cut off at 4 `sigma` pixels, the edge repeated.

    Args:
        x: Float32 image [H, W] or [H, W, C].
        sigma: Standard deviation in pixels.
    """
    size = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(x, (size, size), sigma, borderType=cv2.BORDER_REPLICATE)


def gaussian_blur(x: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Blur by a Gaussian of `sigma` pixels."""
    return to_uint8(gaussian(x.astype(np.float32), sigma))


@lru_cache(maxsize=8)
def _disk(radius: int, alias_blur: float) -> np.ndarray:
    """The original's anti-aliased disk, whose sum is not quite one, without its margin of zeros."""
    reach = max(radius, 8)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    size = 3 if radius <= 8 else 5
    kernel = cv2.GaussianBlur(disk / disk.sum(), (size, size), alias_blur)
    inside = slice(*np.flatnonzero(kernel[reach] > 1e-9)[[0, -1]] + (0, 1))
    return kernel[inside, inside].copy()


def defocus_blur(x: np.ndarray, constants: tuple[int, float], rng: np.random.Generator) -> np.ndarray:
    """Blur by a disk; `constants` = (radius in pixels, blur of its edge)."""
    kernel = _disk(*constants)
    # Where the weights sum to just under one, the original takes a whole grey level off flat areas.
    tolerance = math.copysign(TOLERANCE, kernel.sum(dtype=np.float64) - 1)
    return to_uint8(cv2.filter2D(x.astype(np.float32), -1, kernel), tolerance)


def glass_blur(x: np.ndarray, constants: tuple[float, int, int], rng: np.random.Generator) -> np.ndarray:
    """Blur, displace the pixels at random, and blur again; `constants` = (sigma, reach, iterations)."""
    sigma, reach, iterations = constants
    height, width = x.shape[:2]
    draw = rng.integers(4 * reach**2, size=(iterations, height - 2 * reach, width - 2 * reach), dtype=np.uint8)
    dy, dx = np.divmod(np.arange(4 * reach**2), 2 * reach) - np.intp(reach)
    return _glass_blur(x, sigma, reach, _to_sources(dy * width + dx, height * width)[draw])


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
    source = np.arange(count)
    for step in steps:
        # p stands for the value of pixel p after the iteration, count + p for the one before it.
        after = np.arange(count, 2 * count)
        moved = after.reshape(height, width)[walked]
        moved += step
        unknown = np.flatnonzero(after < count)
        while len(unknown):
            found = after.take(after.take(unknown))
            after[unknown] = found
            unknown = unknown[found < count]
        source = source.take(after - count)
    blurred = _exact_gaussian(x, sigma).reshape(count, 3)
    return _exact_gaussian(blurred.take(source, axis=0).reshape(x.shape), sigma)


def _exact_gaussian(x: np.ndarray, sigma: float) -> np.ndarray:
    """`gaussian` of an image, uint8 [H, W, 3], to the bit as scikit-image's operations in doubles give it.

    The fraction of a level is dropped, so that a rounding error decides where the sum is a whole level. Single
    precision tells all others; the doubles are worked out for the pixels that it cannot tell, in scipy's order. An area
    of one level has one answer.
    """
    size = 2 * int(4 * sigma + 0.5) + 1
    single = gaussian(x.astype(np.float32), sigma)
    out = single.astype(np.uint8)
    unsure = cv2.absdiff(single, np.rint(single)) < TOLERANCE
    square = np.ones((size, size), np.uint8)
    is_flat = cv2.erode(x, square) == cv2.dilate(x, square)  # Beyond the edge there is nothing for either.
    flat, others = np.flatnonzero(unsure & is_flat), np.flatnonzero(unsure & ~is_flat)
    weights = _gaussian_weights(sigma)
    out.put(flat, _flat_levels(sigma).take(x.take(flat)))
    if len(others):
        rows, columns, channels = np.unravel_index(others, x.shape)
        reach = np.arange(size) - size // 2
        inside = [(at[:, None] + reach).clip(0, side - 1) for at, side in ((rows, x.shape[0]), (columns, x.shape[1]))]
        around = x[inside[0][:, :, None], inside[1][:, None], channels[:, None, None]] / 255
        out.put(others, _to_levels(_weighted(_weighted(around, weights), weights)))
    return out


@lru_cache(maxsize=8)
def _gaussian_weights(sigma: float) -> np.ndarray:
    """scipy's Gaussian kernel, cut off at 4 `sigma`."""
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-reach, reach + 1) ** 2)
    return weights / weights.sum()


@lru_cache(maxsize=8)
def _flat_levels(sigma: float) -> np.ndarray:
    """What a Gaussian makes of an area of each grey level, uint8 [256]."""
    weights = _gaussian_weights(sigma)
    area = np.broadcast_to(np.arange(256)[:, None, None] / 255, (256, len(weights), len(weights)))
    return _to_levels(_weighted(_weighted(area, weights), weights))


def _weighted(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum of x [N, taps, …] times weights over the taps, in the order in which scipy adds them up."""
    middle = len(weights) // 2
    total = x[:, middle] * weights[middle]
    for tap in range(middle):
        total += (x[:, tap] + x[:, -1 - tap]) * weights[tap]
    return total


def _to_levels(x: np.ndarray) -> np.ndarray:
    return np.minimum(x * 255, 255).astype(np.uint8)


def motion(x: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Apply ImageMagick's motion blur: a one-sided Gaussian along a line of pixels, the edge repeated.

    Args:
        x: Image in floats, [H, W] or [H, W, C].
        radius: The line has 2 * radius + 1 pixels.
        sigma: Standard deviation along the line, in pixels.
        angle: Direction in degrees.
    """
    length = 2 * radius + 1
    weights = np.exp(-(np.arange(length) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    along_y, along_x = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    height, width = x.shape[:2]
    padded = cv2.copyMakeBorder(x, length, length, length, length, cv2.BORDER_REPLICATE)
    blurred = np.zeros_like(x)
    for i, weight in enumerate(weights):
        top, left = (length + math.ceil(i * along - 0.5) for along in (along_y, along_x))
        cv2.scaleAdd(padded[top : top + height, left : left + width], weight, blurred, blurred)
    return blurred


def motion_blur(x: np.ndarray, constants: tuple[int, float], rng: np.random.Generator) -> np.ndarray:
    """Motion blur within 45° of the horizontal; `constants` = (radius, sigma)."""
    return to_uint8(motion(x.astype(np.float32), *constants, rng.uniform(-45, 45)))


def centre(size: int, factor: float) -> tuple[int, int]:
    """Start and length of the middle of `size` pixels that a zoom by `factor` spreads over all of them."""
    length = math.ceil(size / factor)
    return (size - length) // 2, length


@lru_cache(maxsize=256)
def zoom_matrix(size: int, factor: float) -> csr_array:
    """Zoom into the middle of an axis by linear interpolation, as scipy's: the ends of both grids coincide.

    Returns:
        Sparse matrix [at least `size`, `size`].
    """
    start, length = centre(size, factor)
    zoomed = round(length * factor)
    position = np.arange(zoomed) * ((length - 1) / (zoomed - 1))
    left = np.minimum(position.astype(int), length - 2)
    weights = np.stack([1 - (position - left), position - left], axis=1)
    columns = start + left[:, None] + (0, 1)
    return csr_array((weights.ravel(), columns.ravel(), 2 * np.arange(zoomed + 1)), shape=(zoomed, size))


@lru_cache(maxsize=256)
def _cropped_zoom(size: int, factor: float) -> csr_array:
    return zoom_matrix(size, factor)[:size].astype(np.float32)


def zoom_blur(x: np.ndarray, factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean of the image and of its zooms by `factors`."""
    height, width, channels = x.shape
    total = x.astype(np.float32).reshape(height, -1)
    columns = cv2.transpose(x).reshape(width, -1).astype(np.float32)
    for factor in factors.tolist():
        wide = (_cropped_zoom(width, factor) @ columns).reshape(width, height, channels)
        total += _cropped_zoom(height, factor) @ cv2.transpose(wide).reshape(height, -1)
    return to_uint8(total / (len(factors) + 1)).reshape(x.shape)
