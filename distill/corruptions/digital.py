"""The digital corruptions of ImageNet-C: colour, resolution, compression and elastic deformation.

A corruption takes one image, uint8 [H, W, 3], the constants of a severity and a generator, and returns an
image of the same shape.
"""

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array

from distill.corruptions.blurs import TOLERANCE, to_uint8
from distill.corruptions.draws import unit

FILTER_SHARE = 1 / 8
"""Of a side: a Gaussian that reaches further is faster as a product with a matrix."""


def _change_hsv(x: np.ndarray, change: Callable[[np.ndarray, np.ndarray], tuple]) -> np.ndarray:
    """Convert to HSV, apply `change` to saturation and value, and convert back.

    The result is often a whole grey level before the cast to uint8 drops its fraction, so that a rounding error
    decides about a level. Hence scikit-image's steps, in doubles.
    """
    planes = cv2.split(x)
    red, green, blue = (plane / 255 for plane in planes)
    value = cv2.max(cv2.max(red, green), blue)
    spread = value - cv2.min(cv2.min(red, green), blue)
    grey = spread == 0
    divisor = spread + grey
    hue = (green - blue) / divisor
    np.copyto(hue, 2 + (blue - red) / divisor, where=green == value)
    np.copyto(hue, 4 + (red - green) / divisor, where=blue == value)
    hue[grey] = 0
    hue /= 6
    hue += hue < 0
    saturation, new_value = change(spread / (value + (value == 0)), value)
    hue *= 6
    sixth = np.floor(hue)
    hue -= sixth
    np.subtract(1, hue, out=hue, where=sixth % 2 == 0)
    high, middle, low = (
        (255 * np.clip(level, 0, 1)).astype(np.uint8)
        for level in (new_value, new_value * (1 - hue * saturation), new_value * (1 - saturation))
    )
    out = [middle.copy() for _ in planes]
    largest, least = cv2.max(cv2.max(*planes[:2]), planes[2]), cv2.min(cv2.min(*planes[:2]), planes[2])
    for plane, new in zip(planes, out, strict=True):
        np.copyto(new, high, where=plane == largest)
        np.copyto(new, low, where=plane == least)
    # The hue of grey is that of red.
    np.copyto(out[0], high, where=grey)
    return cv2.merge(out)


def brightness(x: np.ndarray, added: float, rng: np.random.Generator) -> np.ndarray:
    """Add `added` to the value of HSV, which is at most 1. ImageNet-C counts brightness as weather.

    In exact arithmetic each channel is multiplied by the same number, so that its new level follows from its level and
    the pixel's largest one. Where rounding errors may decide about it, pixels go through HSV.
    """
    red, green, blue = cv2.split(x)
    largest = cv2.max(cv2.max(red, green), blue)
    index = cv2.merge((largest, largest, largest)).astype(np.uint16)
    index <<= 8
    index |= x
    levels = _brightness_table(added).take(index)
    out = levels.astype(np.uint8)
    unsure = np.flatnonzero(levels > 255)
    pixels = unsure // 3
    colours = x.reshape(-1, 3).take(pixels, axis=0)
    # The table knows the least level of a pixel too.
    middle = x.take(unsure) > colours.min(axis=1)
    if middle.any():
        pixels, colours = pixels[middle], colours[middle]
        new = _change_hsv(colours[None], lambda saturation, value: (saturation, np.minimum(value + added, 1)))
        out.reshape(-1, 3)[pixels] = new[0]
    return out


@lru_cache(maxsize=8)
def _brightness_table(added: float) -> np.ndarray:
    """New levels [256 * largest level + level] of a pixel's largest and least channel, in the doubles of `_change_hsv`.

    256 is added to levels of other channels that rounding errors may decide about.
    """
    largest, level = np.arange(256)[:, None], np.arange(256)
    value = largest / 255
    new_value = np.minimum(value + added, 1)
    saturation = (value - level / 255) / (value + (value == 0))
    levels = (255 * np.clip(new_value * (1 - saturation), 0, 1)).astype(np.uint16)
    exact = 255 * new_value * level / np.maximum(largest, 1)
    # Doubles are out by some 1e-13. A channel between two others is neither black nor the largest.
    unsure = (np.abs(exact - np.rint(exact)) < 1e-9) & (level > 0) & (level < largest)
    return (levels + 256 * unsure).ravel().astype(np.uint16)


def saturate(x: np.ndarray, constants: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Scale and shift the saturation of HSV; `constants` = (factor, shift)."""
    factor, shift = constants
    return _change_hsv(x, lambda saturation, value: (np.minimum(saturation * factor + shift, 1), value))


def contrast(x: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Scale the difference from the mean of each channel by `factor`."""
    mean = np.array(cv2.mean(x)[:3]) / 255
    level = np.arange(256)[:, None] / 255
    table = np.clip((level - mean) * factor + mean, 0, 1) * 255
    return cv2.LUT(x, table.astype(np.uint8)[None])


@lru_cache(maxsize=32)
def box_matrix(size: int, small: int) -> csr_array:
    """Make Pillow's box filter from `size` to `small` pixels: the mean of those whose middle is in the new one."""
    scale = size / small
    pixel, middle = np.arange(size), np.arange(0.5, small)[:, None] * scale
    # A middle on the boundary is up to rounding errors: these are Pillow's operations in their order.
    first, end = np.floor(middle - scale / 2 + 0.5), np.floor(middle + scale / 2 + 0.5)
    offset = (pixel - middle + 0.5) * (1 / scale)
    inside = (pixel >= first) & (pixel < end) & (offset > -0.5) & (offset <= 0.5)
    return csr_array((inside / inside.sum(axis=1, keepdims=True)).astype(np.float32))


def pixelate(x: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink the sides by `factor` and enlarge them again, as Pillow does: the width first, rounding in between."""
    height, width = x.shape[:2]
    for size in (width, height):
        x = cv2.transpose(x)
        rows = box_matrix(size, int(size * factor)) @ x.reshape(size, -1).astype(np.float32)
        # Half a level rounds up.
        x = to_uint8(rows, TOLERANCE + 0.5).reshape(len(rows), *x.shape[1:])
    # The original enlarges by a box filter as well; at its 224 pixels that takes just the nearest one.
    return np.asarray(Image.fromarray(x).resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(x: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    """Compress as JPEG by OpenCV, which is faster than Pillow and gives the same: both use libjpeg's defaults."""
    _, data = cv2.imencode('.jpg', cv2.cvtColor(x, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, quality))
    return cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@lru_cache(maxsize=16)
def smoothing(size: int, sigma: float) -> np.ndarray:
    """Make scipy's Gaussian filter of an axis, ``mode='reflect', truncate=3``, as a matrix [size, size].

    A product with the matrix costs the same for any sigma, and the original's sigma goes up to 3/4 of the image.
    """
    return gaussian_filter1d(np.eye(size), sigma, axis=0, mode='reflect', truncate=3).astype(np.float32)


def _smooth(noise: np.ndarray, sigmas: tuple[float, float]) -> np.ndarray:
    """Smooth [2, H, W] along height and width by Gaussians of `sigmas` pixels."""
    reaches = [int(3 * sigma + 0.5) for sigma in sigmas]
    height, width = noise.shape[1:]
    if reaches[0] > FILTER_SHARE * height or reaches[1] > FILTER_SHARE * width:
        return smoothing(height, sigmas[0]) @ noise @ smoothing(width, sigmas[1]).T
    kernels = [cv2.getGaussianKernel(2 * reach + 1, sigma) for reach, sigma in zip(reaches, sigmas, strict=True)]
    return np.stack([cv2.sepFilter2D(of, -1, *kernels[::-1], borderType=cv2.BORDER_REFLECT) for of in noise])


def displace(x: np.ndarray, noise: np.ndarray, amplitude: float, sigmas: tuple[float, float]) -> np.ndarray:
    """Displace the pixels by smoothed noise.

    Args:
        x: Float32 image [H, W, 3].
        noise: Of dy and dx, [2, H, W], float32.
        amplitude: Pixels by which the smoothed noise is multiplied.
        sigmas: Of the smoothing along height and width, in pixels.
    """
    height, width = x.shape[:2]
    displacement = _smooth(noise, sigmas)
    displacement *= amplitude
    dy, dx = displacement
    dy += np.arange(height, dtype=np.float32)[:, None]
    dx += np.arange(width, dtype=np.float32)
    return to_uint8(cv2.remap(x, dx, dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw noise between -1 and 1, [2, H, W]."""
    noise = unit(rng, (2, height, width))
    noise *= 2
    noise -= 1
    return noise


def elastic_lengths(height: int, width: int, constants: tuple[float, float, float]) -> tuple[float, float, float]:
    """Amplitude and sigma of the displacements and largest shift of `elastic_transform`, in pixels."""
    return tuple(c * 244 * min(height, width) / 224 for c in constants)


def elastic_draws(
    rng: np.random.Generator, height: int, width: int, constants: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the affine map and the noise of `elastic_transform`.

    Returns:
        Two: from a pixel's (x, y, 1) to where it comes from, doubles [2, 3]; noise of dy and dx, float32 [2, H, W].
    """
    shift = elastic_lengths(height, width, constants)[2]
    middle = np.float32([height, width]) // 2
    side = min(height, width) // 3
    corners = np.float32([middle + side, [middle[0] + side, middle[1] - side], middle - side])
    moved = corners + rng.uniform(-shift, shift, corners.shape).astype(np.float32)
    affine = cv2.invertAffineTransform(cv2.getAffineTransform(corners, moved))
    return affine, _noise(rng, height, width)


def elastic_transform(x: np.ndarray, constants: tuple, rng: np.random.Generator) -> np.ndarray:
    """Apply a random affine map, then smooth displacements, as in make_imagenet_c.py.

    `constants` = amplitude and sigma of the displacements and largest shift of the affine map's corners, all in
    units of the shorter side (times 244 / 224: the original has 244 for 224, by mistake as it says).
    """
    height, width = x.shape[:2]
    amplitude, sigma, _ = elastic_lengths(height, width, constants)
    affine, noise = elastic_draws(rng, height, width, constants)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    x = cv2.warpAffine(x.astype(np.float32), affine, (width, height), flags=how, borderMode=cv2.BORDER_REFLECT_101)
    return displace(x, noise, amplitude, (sigma, sigma))


def elastic_port_lengths(height: int, width: int, alpha: float) -> tuple[float, tuple[float, float]]:
    """Amplitude of the displacements of `elastic_transform_port` and sigmas along height and width, in pixels."""
    return alpha * 0.005 * height, (0.01 * height, 0.01 * width)


def elastic_port_draws(rng: np.random.Generator, height: int, width: int, alpha: float) -> tuple[np.ndarray]:
    """Draw the noise of `elastic_transform_port`: of dy and dx, float32 [2, H, W]."""
    return (_noise(rng, height, width),)


def elastic_transform_port(x: np.ndarray, alpha: float, rng: np.random.Generator) -> np.ndarray:
    """Apply smooth displacements only, as imagecorruptions does; `alpha` is their amplitude."""
    height, width = x.shape[:2]
    (noise,) = elastic_port_draws(rng, height, width, alpha)
    return displace(x.astype(np.float32), noise, *elastic_port_lengths(height, width, alpha))
