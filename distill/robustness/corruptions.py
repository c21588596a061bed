"""The corruptions of ImageNet-C, on the fly, at any size from 32 pixels.

The definition is ``make_imagenet_c.py`` of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to
Common Corruptions and Perturbations", ICLR'19 (https://github.com/hendrycks/robustness, Apache-2.0): its
constants, its formulas, its casts to uint8. Deterministic kinds give its grey levels, random kinds its
distribution. The package imagecorruptions-imaug is a port of it to any image size; for sizes other than 224 this
module does as that package does, except that

- elastic_transform is by default the original's, its lengths scaled by the shorter side / 224, with the port's
  own definition on request;
- frost keeps the textures' scale and leaves out the sixth, as the original does;
- motion_blur repeats the edge of images smaller than the blur is long.

The motion of motion_blur and snow is ImageMagick's in the original; here, as in the port, it is computed without
it. The published ImageNet-C is, moreover, stored as JPEG of quality 85, which is not done here: results on the
two do not belong into one table.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from io import BytesIO

import cv2
import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter1d

from distill.robustness import _blurs, _noise, _weather
from distill.robustness._blurs import to_uint8
from distill.robustness._frost import frost_source

__all__ = ['EXTRA_KINDS', 'KINDS', 'SEVERITIES', 'corrupt', 'frost_source', 'generator']

SEVERITIES = (1, 2, 3, 4, 5)
MIN_SIZE_PX = 32
ELASTIC = ('imagenet_c', 'imagecorruptions')

# -------------------------------------------------------------------------------------------------- digital


def contrast(x: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink the distance to the mean of each channel."""
    mean = np.array(cv2.mean(x)[:3]) / 255
    level = np.arange(256)[:, None] / 255
    table = np.clip((level - mean) * factor + mean, 0, 1) * 255
    return cv2.LUT(x, table.astype(np.uint8)[None])


def saturate(x: np.ndarray, constants: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Scale and shift the saturation of HSV; `constants` = (factor, shift)."""
    factor, shift = constants
    planes = cv2.split(x.astype(np.float32))
    largest = cv2.max(cv2.max(*planes[:2]), planes[2])
    spread = largest - cv2.min(cv2.min(*planes[:2]), planes[2])
    grey = spread == 0
    spread[grey] = 1
    # Value and hue stay if all distances to the largest channel grow by one ratio, the saturation's.
    ratio = np.minimum(factor + shift * largest / spread, largest / spread)
    planes = [largest - (largest - plane) * ratio for plane in planes]
    # The hue of grey counts as red, so that a saturation for it takes green and blue away.
    for plane in planes[1:]:
        plane[grey] *= 1 - shift
    return to_uint8(cv2.merge(planes))


def pixelate(x: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    height, width = x.shape[:2]
    small = Image.fromarray(x).resize((int(width * factor), int(height * factor)), Image.Resampling.BOX)
    # The original's box filter takes just the nearest pixel when it enlarges.
    return np.asarray(small.resize((width, height), Image.Resampling.NEAREST))


def jpeg_compression(x: np.ndarray, quality: int, rng: np.random.Generator) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(x).save(file, 'JPEG', quality=quality)
    return np.asarray(Image.open(file))


@lru_cache(maxsize=16)
def _smoothing(size: int, sigma: float) -> np.ndarray:
    """scipy's Gaussian filter of an axis, ``mode='reflect', truncate=3``, as a matrix [size, size]."""
    return gaussian_filter1d(np.eye(size), sigma, axis=0, mode='reflect', truncate=3).astype(np.float32)


def _smooth(noise: np.ndarray, sigma_y: float, sigma_x: float) -> np.ndarray:
    """Filter [..., H, W]. A product with matrices costs the same for a sigma as wide as the image."""
    return _smoothing(noise.shape[-2], sigma_y) @ noise @ _smoothing(noise.shape[-1], sigma_x).T


def _displace(x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    height, width = x.shape[:2]
    dx += np.arange(width, dtype=np.float32)
    dy += np.arange(height, dtype=np.float32)[:, None]
    return to_uint8(cv2.remap(x, dx, dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def elastic_transform(x: np.ndarray, constants: tuple, rng: np.random.Generator) -> np.ndarray:
    """The original's: a random affine map, then smooth random displacements.

    Args:
        x: Image [H, W, 3], uint8.
        constants: Amplitude and sigma of the displacements, and the largest shift of a corner of the affine map,
            in units of 244 pixels (224 was meant) for images of 224.
        rng: Draws it.
    """
    height, width = x.shape[:2]
    unit = 244 * min(height, width) / 224
    amplitude, sigma, shift = (unit * c for c in constants)
    centre = np.float32([height, width]) // 2
    side = min(height, width) // 3
    corners = np.float32([centre + side, [centre[0] + side, centre[1] - side], centre - side])
    moved = corners + rng.uniform(-shift, shift, corners.shape).astype(np.float32)
    affine = cv2.getAffineTransform(corners, moved)
    x = cv2.warpAffine(x.astype(np.float32), affine, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    dx, dy = (
        amplitude * _smooth(2 * rng.random((height, width), dtype=np.float32) - 1, sigma, sigma)
        for _ in range(2)
    )
    return _displace(x, dy, dx)


def elastic_transform_port(x: np.ndarray, alpha: float, rng: np.random.Generator) -> np.ndarray:
    """That of imagecorruptions: smooth random displacements only, in pixels times `alpha`."""
    height, width = x.shape[:2]
    reach = 0.005 * height
    dx, dy = (
        alpha
        * _smooth(
            reach * (2 * rng.random((height, width), dtype=np.float32) - 1), 0.01 * height, 0.01 * width
        )
        for _ in range(2)
    )
    return _displace(x.astype(np.float32), dy, dx)


# -------------------------------------------------------------------------------------------------- by name

_CORRUPTIONS: dict[str, tuple[Callable, Sequence]] = {
    'gaussian_noise': (_noise.gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    'shot_noise': (_noise.shot_noise, (60, 25, 12, 5, 3)),
    'impulse_noise': (_noise.impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    'defocus_blur': (_blurs.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    'glass_blur': (_blurs.glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    'motion_blur': (_blurs.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    'zoom_blur': (
        _blurs.zoom_blur,
        (
            np.arange(1, 1.11, 0.01),
            np.arange(1, 1.16, 0.01),
            np.arange(1, 1.21, 0.02),
            np.arange(1, 1.26, 0.02),
            np.arange(1, 1.31, 0.03),
        ),
    ),
    'snow': (
        _weather.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    'frost': (_weather.frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))),
    'fog': (_weather.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    'brightness': (_weather.brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    'contrast': (contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    'elastic_transform': (
        elastic_transform,
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    ),
    'pixelate': (pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    'jpeg_compression': (jpeg_compression, (25, 18, 15, 10, 7)),
    'speckle_noise': (_noise.speckle_noise, (0.15, 0.2, 0.35, 0.45, 0.6)),
    'gaussian_blur': (_blurs.gaussian_blur, (1, 2, 3, 4, 6)),
    'spatter': (
        _weather.spatter,
        (
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
    ),
    'saturate': (saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
}
_ELASTIC_PORT = (elastic_transform_port, (12.5, 16.25, 21.25, 25, 30))

KINDS = tuple(_CORRUPTIONS)[:15]
"""The kinds that ImageNet-C is scored on, in its order: noise, blur, weather, digital."""
EXTRA_KINDS = tuple(_CORRUPTIONS)[15:]
"""The held-out kinds, meant for validation."""


def generator(seed: int | Sequence[int], kind: str, severity: int) -> np.random.Generator:
    """The random numbers of one image's corruption.

    Args:
        seed: Names the image: an integer of at least 0 or several, such as (seed of the run, index of the image).
        kind: Of `KINDS` or `EXTRA_KINDS`.
        severity: Of `SEVERITIES`.
    """
    seeds = [seed] if isinstance(seed, int | np.integer) else list(seed)
    return np.random.Generator(np.random.SFC64([*seeds, tuple(_CORRUPTIONS).index(kind), severity]))


def corrupt(
    images: np.ndarray | torch.Tensor,
    kind: str,
    severity: int,
    seeds: Sequence[int | Sequence[int]],
    elastic: str = 'imagenet_c',
) -> np.ndarray | torch.Tensor:
    """Corrupt a batch of images.

    An image's result depends on the image, its seed, `kind` and `severity` only, never on the rest of the batch.

    Args:
        images: Numpy uint8 [B, H, W, 3], or torch uint8 [B, 3, H, W] on any device; RGB, sides of at least 32.
            The work is done in numpy on the CPU either way.
        kind: Of `KINDS` or `EXTRA_KINDS`.
        severity: Of `SEVERITIES`.
        seeds: One for each image: an integer or several, such as (seed of the run, index of the image).
        elastic: Whose elastic_transform: 'imagenet_c' (the original) or 'imagecorruptions' (its port, which
            leaves out the affine map; they differ most at severities 1 and 2).

    Returns:
        Corrupted images of the same type, shape, dtype and device.

    Raises:
        ValueError: An argument is not as above.
    """
    if isinstance(images, torch.Tensor):
        _check_layout(tuple(images.shape), str(images.dtype), 'torch uint8 [B, 3, H, W]', channel_axis=1)
        batch = images.permute(0, 2, 3, 1).cpu().numpy()
        out = torch.from_numpy(corrupt(batch, kind, severity, seeds, elastic))
        return out.permute(0, 3, 1, 2).contiguous().to(images.device)
    _check(images, kind, severity, seeds, elastic)
    function, constants = _CORRUPTIONS[kind]
    if kind == 'elastic_transform' and elastic == 'imagecorruptions':
        function, constants = _ELASTIC_PORT
    out = np.empty(images.shape, np.uint8)
    for index, (image, seed) in enumerate(zip(images, seeds, strict=True)):
        rng = generator(seed, kind, severity)
        out[index] = function(np.ascontiguousarray(image), constants[severity - 1], rng)
    return out


def _check(images: np.ndarray, kind: str, severity: int, seeds: Sequence, elastic: str) -> None:
    if not isinstance(images, np.ndarray):
        raise ValueError(
            f'images are a {type(images).__name__}; expected a numpy array or torch tensor of uint8'
        )
    _check_layout(images.shape, str(images.dtype), 'numpy uint8 [B, H, W, 3]', channel_axis=3)
    if kind not in _CORRUPTIONS:
        raise ValueError(f'corruption {kind!r} is unknown; choose from {", ".join(sorted(_CORRUPTIONS))}')
    if severity not in SEVERITIES:
        raise ValueError(f'severity {severity!r} is out of range; choose from 1, 2, 3, 4, 5')
    if elastic not in ELASTIC:
        raise ValueError(f'elastic {elastic!r} is unknown; choose from {", ".join(ELASTIC)}')
    if len(seeds) != len(images):
        raise ValueError(f'{len(seeds)} seeds for {len(images)} images; give one seed for each image')


def _check_layout(shape: tuple[int, ...], dtype: str, expected: str, channel_axis: int) -> None:
    if 'uint8' not in dtype or len(shape) != 4 or shape[channel_axis] != 3:
        raise ValueError(f'images are {dtype} {list(shape)}; expected {expected}')
    height, width = [size for axis, size in enumerate(shape) if axis not in (0, channel_axis)]
    if min(height, width) < MIN_SIZE_PX:
        raise ValueError(f'images of {height}x{width} are too small; corruptions need at least 32x32 pixels')
