"""The blurs of ImageNet-C, and the operations that they share with its other corruptions.

A corruption takes one image, uint8 [H, W, 3], the constants of a severity and a generator, and returns an
image of the same shape. A function that takes the draws in place of a generator is called ``..._from``.
"""

import math
from functools import lru_cache

import cv2
import numpy as np
from scipy.sparse import csr_array, hstack, vstack

TOLERANCE = 1e-3
"""In grey levels: larger than the rounding errors of float32 here, and far too small to be seen."""

ZOOMS_AT_ONCE = 2
"""More are fewer passes over the sum, but leave the processor's cache."""


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
def disk(radius: int, alias_blur: float) -> np.ndarray:
    """The original's anti-aliased disk, whose sum is not quite one, without its margin of zeros."""
    reach = max(radius, 8)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    size = 3 if radius <= 8 else 5
    kernel = cv2.GaussianBlur(disk / disk.sum(), (size, size), alias_blur)
    inside = slice(*np.flatnonzero(kernel[reach] > 1e-9)[[0, -1]] + (0, 1))
    return kernel[inside, inside].copy()


def correlate(x: np.ndarray, kernel: np.ndarray, top: int, left: int, border: int) -> np.ndarray:
    """Weigh the pixels around each pixel, the zeros of the kernel left out.

    OpenCV skips zeros in kernels of up to 121 pixels and applies larger ones by Fourier transforms, which takes longer
    for a line. So the kernel is applied in bands of rows.

    Args:
        x: Float32 image, [H, W] or [H, W, C].
        kernel: Weights, [rows, columns].
        top: Row of the kernel that stands for the pixel itself.
        left: Column of the kernel that stands for the pixel itself.
        border: How OpenCV continues the image.
    """
    height, width = x.shape[:2]
    padded = cv2.copyMakeBorder(x, top, len(kernel) - 1 - top, left, kernel.shape[1] - 1 - left, border)
    used, end = kernel != 0, kernel.shape[1]
    firsts = np.where(used.any(axis=1), used.argmax(axis=1), end).tolist()
    lasts = np.where(used.any(axis=1), end - 1 - used[:, ::-1].argmax(axis=1), -1).tolist()
    total, row = np.zeros_like(x), 0
    while row < len(kernel):
        first, last, end = firsts[row], lasts[row], row + 1
        while end < len(kernel):
            wider = min(first, firsts[end]), max(last, lasts[end])
            if (end + 1 - row) * (wider[1] + 1 - wider[0]) > 121:
                break
            (first, last), end = wider, end + 1
        if first <= last:
            band = padded[row : end - 1 + height, first : last + width]
            part = cv2.filter2D(band, -1, kernel[row:end, first : last + 1], anchor=(0, 0))
            cv2.add(total, part[:height, :width], total)
        row = end
    return total


def defocus_blur(x: np.ndarray, constants: tuple[int, float], rng: np.random.Generator) -> np.ndarray:
    """Blur by a disk; `constants` = (radius in pixels, blur of its edge)."""
    kernel = disk(*constants)
    # Where the weights sum to just under one, the original takes a whole grey level off flat areas.
    tolerance = math.copysign(TOLERANCE, kernel.sum(dtype=np.float64) - 1)
    return to_uint8(cv2.filter2D(x.astype(np.float32), -1, kernel), tolerance)


def motion_line(radius: int, sigma: float, angle: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The line of pixels of a motion blur: dy, dx and weight of its 2 * `radius` + 1 pixels, the first at (0, 0)."""
    step = np.arange(2 * radius + 1)
    weights = np.exp(-(step**2) / (2 * sigma**2))
    direction = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    dy, dx = (np.ceil(step * along - 0.5).astype(int) for along in direction)
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
    kernel = np.zeros((np.ptp(dy) + 1, np.ptp(dx) + 1), np.float32)
    np.add.at(kernel, (dy - dy.min(), dx - dx.min()), weights)  # A diagonal meets some pixels twice.
    return correlate(x, kernel, -dy.min(), -dx.min(), cv2.BORDER_REPLICATE)


def motion_blur(x: np.ndarray, constants: tuple[int, float], rng: np.random.Generator) -> np.ndarray:
    """Motion blur within 45° of the horizontal; `constants` = (radius, sigma)."""
    return to_uint8(motion(x.astype(np.float32), *constants, motion_angle(rng)))


def motion_angle(rng: np.random.Generator) -> float:
    """Draw the direction of `motion_blur` in degrees."""
    return rng.uniform(-45, 45)


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


@lru_cache(maxsize=64)
def _zooms(size: int, factors: tuple[float, ...], axis: int) -> csr_array:
    """The matrices of several zooms of an axis, float32: one below the other for axis 0, side by side for axis 1."""
    zooms = [zoom_matrix(size, factor)[:size] for factor in factors]
    return csr_array((vstack if axis == 0 else hstack)(zooms), dtype=np.float32)


def zoom_blur(x: np.ndarray, factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean of the image and of its zooms by `factors`."""
    height, width, channels = x.shape
    zooms = [factor for factor in factors.tolist() if factor != 1]
    rows = x.astype(np.float32).reshape(height, -1)
    total = cv2.transpose(x).reshape(width, -1).astype(np.float32)
    total *= 1 + len(factors) - len(zooms)
    for start in range(0, len(zooms), ZOOMS_AT_ONCE):
        some = tuple(zooms[start : start + ZOOMS_AT_ONCE])
        high = (_zooms(height, some, 0) @ rows).reshape(len(some), height, width, channels)
        turned = np.empty((len(some), width, height, channels), np.float32)
        for zoomed, out in zip(high, turned, strict=True):
            cv2.transpose(zoomed, out)
        total += _zooms(width, some, 1) @ turned.reshape(len(some) * width, -1)
    total /= len(factors) + 1
    return cv2.transpose(to_uint8(total).reshape(width, height, channels))
