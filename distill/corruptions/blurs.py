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


def motion_line(radius: int, sigma: float, angle: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The line of pixels of a motion blur: dy, dx and weight of its 2 * `radius` + 1 pixels, the first at (0, 0)."""
    step = np.arange(2 * radius + 1)
    weights = np.exp(-(step**2) / (2 * sigma**2))
    dy, dx = (
        np.ceil(step * along - 0.5).astype(int) for along in (math.sin(math.radians(angle)), math.cos(math.radians(angle)))
    )
    return dy, dx, weights / weights.sum()


def motion(x: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Apply ImageMagick's motion blur: a one-sided Gaussian along a line of pixels, the edge repeated.

    Args:
        x: Float32 image, [H, W] or [H, W, C].
        radius: The line has 2 * radius + 1 pixels.
        sigma: Standard deviation along the line, in pixels.
        angle: Direction in degrees.
    """
    dy, dx, weights = motion_line(radius, sigma, angle)
    height, width = x.shape[:2]
    reach_y, reach_x = np.abs(dy).max(), np.abs(dx).max()
    padded = cv2.copyMakeBorder(x, reach_y, reach_y, reach_x, reach_x, cv2.BORDER_REPLICATE)
    blurred, start = None, 0
    while start < len(weights):
        # OpenCV skips the zeros of kernels of up to 121 pixels; larger ones it applies by Fourier transforms.
        boxes = (np.abs(dy[start:] - dy[start]) + 1) * (np.abs(dx[start:] - dx[start]) + 1)
        part = slice(start, start + np.searchsorted(boxes, 121, side='right'))
        start = part.stop
        top, left = dy[part].min(), dx[part].min()
        kernel = np.zeros((np.ptp(dy[part]) + 1, np.ptp(dx[part]) + 1), np.float32)
        np.add.at(kernel, (dy[part] - top, dx[part] - left), weights[part])  # A diagonal meets a pixel twice.
        rows = slice(reach_y + top, reach_y + top + height + len(kernel) - 1)
        columns = slice(reach_x + left, reach_x + left + width + kernel.shape[1] - 1)
        moved = cv2.filter2D(padded[rows, columns], -1, kernel, anchor=(0, 0))[:height, :width]
        blurred = moved if blurred is None else cv2.add(blurred, moved)
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
