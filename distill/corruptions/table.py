"""The table of all corruptions with their constants, and `corrupt`, which applies one of them to a batch of images."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from distill.base.records import DEFINITIONS, Cell
from distill.corruptions import blurs, digital, glass, noise, weather

MIN_SIZE_PX = 32

_CORRUPTIONS: dict[str, tuple[Callable, Sequence]] = {
    'gaussian_noise': (noise.gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    'shot_noise': (noise.shot_noise, (60, 25, 12, 5, 3)),
    'impulse_noise': (noise.impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    'defocus_blur': (blurs.defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    'glass_blur': (glass.glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    'motion_blur': (blurs.motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    'zoom_blur': (
        blurs.zoom_blur,
        (
            np.arange(1, 1.11, 0.01),
            np.arange(1, 1.16, 0.01),
            np.arange(1, 1.21, 0.02),
            np.arange(1, 1.26, 0.02),
            np.arange(1, 1.31, 0.03),
        ),
    ),
    'snow': (
        weather.snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    'frost': (weather.frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))),
    'fog': (weather.fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    'brightness': (digital.brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    'contrast': (digital.contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    'elastic_transform': (
        digital.elastic_transform,
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    ),
    'pixelate': (digital.pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    'jpeg_compression': (digital.jpeg_compression, (25, 18, 15, 10, 7)),
    'speckle_noise': (noise.speckle_noise, (0.15, 0.2, 0.35, 0.45, 0.6)),
    'gaussian_blur': (blurs.gaussian_blur, (1, 2, 3, 4, 6)),
    'spatter': (
        weather.spatter,
        (
            (0.65, 0.3, 4, 0.69, 0.6, False),
            (0.65, 0.3, 3, 0.68, 0.6, False),
            (0.65, 0.3, 2, 0.68, 0.5, False),
            (0.65, 0.3, 1, 0.65, 1.5, True),
            (0.67, 0.4, 1, 0.65, 1.5, True),
        ),
    ),
    'saturate': (digital.saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
}
_PORT = {
    'elastic_transform': (digital.elastic_transform_port, (12.5, 16.25, 21.25, 25, 30)),
    'frost': (weather.frost_port, _CORRUPTIONS['frost'][1]),
}
"""The kinds that imagecorruptions defines in another way."""

DETERMINISTIC = (
    'defocus_blur',
    'zoom_blur',
    'brightness',
    'contrast',
    'pixelate',
    'jpeg_compression',
    'gaussian_blur',
    'saturate',
)
"""The kinds that draw no random numbers."""


def generator(seed: int | Sequence[int], kind: str, severity: int) -> np.random.Generator:
    """Make the generator of the random numbers with which one image is corrupted.

    Args:
        seed: Names the image: an integer of at least 0, or several such as (seed of the run, image's index).
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
    definition: str = DEFINITIONS[0],
) -> np.ndarray | torch.Tensor:
    """Corrupt a batch of images.

    The result for an image depends on the image, its seed, `kind` and `severity`, never on the rest of the batch.

    Args:
        images: RGB with sides of at least 32 pixels: numpy uint8 [B, H, W, 3], or torch uint8 [B, 3, H, W]. A tensor
            on a card is corrupted there, see `distill.corruptions.tensors.table`.
        kind: Of `KINDS` or `EXTRA_KINDS`.
        severity: Of `SEVERITIES`.
        seeds: For each image an integer of at least 0, or several such as (seed of the run, image's index).
        definition: Whose elastic_transform and frost: 'imagenet_c', the original's, or 'imagecorruptions', its
            port's. The port's elastic_transform has no affine map, which shows most at severities 1 and 2; its
            frost has a sixth, darker texture and enlarges all by a tenth.

    Returns:
        Corrupted images of the same type, shape, dtype and device.

    Raises:
        ValueError: An argument is none of these.
    """
    if isinstance(images, torch.Tensor):
        _check_images(images.shape, images.dtype, images.dtype == torch.uint8, 'torch uint8 [B, 3, H, W]', 1)
        if images.device.type == 'cpu':
            out = torch.from_numpy(corrupt(images.permute(0, 2, 3, 1).numpy(), kind, severity, seeds, definition))
            return out.permute(0, 3, 1, 2).contiguous()
        check_choices(kind, severity, definition)
        _check_seeds(seeds, len(images))
        return _corrupt_there(images, Cell(kind, severity), seeds, definition)
    if not isinstance(images, np.ndarray):
        raise ValueError(f'images are a {type(images).__name__}; expected a numpy array or a torch tensor')
    _check_images(images.shape, images.dtype, images.dtype == np.uint8, 'numpy uint8 [B, H, W, 3]', 3)
    check_choices(kind, severity, definition)
    _check_seeds(seeds, len(images))
    function, constants = definition_of(kind, severity, definition)
    out = np.empty(images.shape, np.uint8)
    for index, (image, seed) in enumerate(zip(images, seeds, strict=True)):
        rng = None if kind in DETERMINISTIC else generator(seed, kind, severity)
        out[index] = function(np.ascontiguousarray(image), constants, rng)
    return out


def _corrupt_there(images: torch.Tensor, cell: Cell, seeds: Sequence, definition: str) -> torch.Tensor:
    """Corrupt images on the card that they lie on."""
    from distill.corruptions.tensors.table import corrupt_drawn, draw, sees_images

    last = images.permute(0, 2, 3, 1)
    # A copy back from a card waits for all that it was given before.
    pixels = last.cpu().numpy() if sees_images(cell.kind, definition) else np.broadcast_to(np.uint8(0), last.shape)
    drawn = draw(pixels, [cell], seeds, definition).to(images.device)
    return corrupt_drawn(images, [cell], drawn, definition)[:, 0]


def definition_of(kind: str, severity: int, definition: str) -> tuple[Callable, Any]:
    """The corruption of one image, called with it, the constants and a generator; and the constants of a severity."""
    function, constants = _CORRUPTIONS[kind]
    if definition == 'imagecorruptions':
        function, constants = _PORT.get(kind, (function, constants))
    return function, constants[severity - 1]


def _check_seeds(seeds: Sequence, count: int) -> None:
    if len(seeds) != count:
        raise ValueError(f'{len(seeds)} seeds for {count} images; give one seed for each image')


def _check_images(shape: Sequence[int], dtype: object, is_uint8: bool, expected: str, channel_axis: int) -> None:
    if not is_uint8 or len(shape) != 4 or shape[channel_axis] != 3:
        raise ValueError(f'images are {dtype} {list(shape)}; expected {expected}')
    height, width = (size for axis, size in enumerate(shape) if axis not in (0, channel_axis))
    if min(height, width) < MIN_SIZE_PX:
        raise ValueError(f'images of {height}x{width} pixels are too small; corruptions need at least 32x32')


def check_choices(kind: str, severity: int, definition: str = DEFINITIONS[0]) -> None:
    """Check the choices of `corrupt`.

    Raises:
        ValueError: Kind, severity or definition is unknown.
    """
    Cell(kind, severity)
    if definition not in DEFINITIONS:
        raise ValueError(f'definition {definition!r} is unknown; choose from {", ".join(DEFINITIONS)}')
