"""The ten families of textures, which are the shortcut: ``TEXTURES[i]`` agrees with ``CLASSES[i]`` of the shapes.

Lengths scale with the image, so that the task is the same at any size.
"""

from functools import cache

import numpy as np
from PIL import Image


@cache
def _pixel_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:size, :size].astype(np.float32) + np.float32(0.5)
    return x, y


def _turned(rng: np.random.Generator, size: int, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates turned by ``degrees`` ± 8 and moved by up to an image."""
    angle = np.radians(degrees + rng.uniform(-8, 8))
    x, y = _pixel_grid(size)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = rng.uniform(0, size, size=2).astype(np.float32)
    return x * cos + y * sin + dx, y * cos - x * sin + dy


def _bands(distance: np.ndarray, period: float) -> np.ndarray:
    """Stripes of equal width with edges about a pixel wide."""
    return 0.5 + 0.5 * np.clip(np.sin(distance * (2 * np.pi / period)) * max(1.0, period / 5), -1, 1)


def _inside(distance: np.ndarray) -> np.ndarray:
    """1 where a signed distance in pixels is negative, 0 where it is positive, and a ramp of one pixel between."""
    return np.clip(0.5 - distance, 0, 1)


def _cell(coordinate: np.ndarray, period: float) -> np.ndarray:
    """Signed distance in pixels to the middle of the cell of a lattice."""
    return (coordinate / period % 1 - 0.5) * period


def _horizontal(rng, size, period):
    return _bands(_turned(rng, size, 0)[1], period)


def _vertical(rng, size, period):
    return _bands(_turned(rng, size, 90)[1], period)


def _diagonal(rng, size, period):
    return _bands(_turned(rng, size, rng.choice([-45, 45]))[1], period)


def _waves(rng, size, period):
    x, y = _turned(rng, size, rng.choice([0, 90]))
    return _bands(y + 0.55 * period * np.sin(x * (np.pi / period)), period)


def _checker(rng, size, period):
    x, y = _turned(rng, size, 0)
    product = np.sin(x * (np.pi / period)) * np.sin(y * (np.pi / period))
    return 0.5 + 0.5 * np.clip(product * max(1.0, period / 1.5), -1, 1)


def _dots(rng, size, period):
    period = 1.15 * period
    x, y = _turned(rng, size, 0)
    x = x + (np.floor(y / period) % 2) * (period / 2)
    return _inside(np.hypot(_cell(x, period), _cell(y, period)) - 0.3 * period)


def _grid(rng, size, period):
    period = 1.3 * period
    x, y = _turned(rng, size, 0)
    lines = np.minimum(np.abs(_cell(x, period)), np.abs(_cell(y, period)))
    return _inside(lines - 0.12 * period)


def _rings(rng, size, period):
    x, y = _pixel_grid(size)
    cx, cy = rng.uniform(0.2 * size, 0.8 * size, size=2).astype(np.float32)
    return _bands(np.hypot(x - cx, y - cy) + rng.uniform(0, period), period)


def _blobs(rng, size, period):
    cells = int(np.ceil(size / period)) + 3
    noise = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
    side = round(cells * period)
    smooth = np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC))
    start = round(period)
    return np.clip(0.5 + smooth[start : start + size, start : start + size] * period / 6, 0, 1)


def _speckle(rng, size, period):
    cell = max(1, round(period / 6))
    cells = -(-size // cell)
    noise = (rng.random((cells, cells)) < 0.5).astype(np.float32)
    return noise.repeat(cell, axis=0).repeat(cell, axis=1)[:size, :size]


_DRAW = {
    'horizontal': _horizontal,
    'rings': _rings,
    'checker': _checker,
    'dots': _dots,
    'waves': _waves,
    'grid': _grid,
    'vertical': _vertical,
    'blobs': _blobs,
    'diagonal': _diagonal,
    'speckle': _speckle,
}
TEXTURES = tuple(_DRAW)


def random_texture(rng: np.random.Generator, family: str, size: int, reference: float) -> np.ndarray:
    """Draw a texture of a family with random phase, tilt and scale.

    Args:
        rng: Source of everything random.
        family: One of ``TEXTURES``.
        size: Side of the image in pixels.
        reference: Side in pixels of the image or shape that wears the texture; a period is 15 to 25 % of it.

    Returns:
        Float array [size, size] in 0..1.
    """
    return _DRAW[family](rng, size, reference * rng.uniform(0.15, 0.25))


def draw_texture_class(rng: np.random.Generator, label: int, agreement: float) -> int:
    """Draw the class whose texture a shape of class ``label`` wears: ``label`` with probability ``agreement``."""
    if rng.random() < agreement:
        return label
    return int((label + rng.integers(1, len(TEXTURES))) % len(TEXTURES))
