"""The ten shapes that carry the class: their outlines, random ones in an image, and the pixels that they cover."""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw

CLASSES = (
    'arrow',
    'bolt',
    'circle',
    'crescent',
    'cross',
    'heart',
    'hourglass',
    'square',
    'star',
    'triangle',
)
SUPERSAMPLE = 4
"""Points a side of a pixel at which coverage is measured."""


def _polar(radius: np.ndarray | float, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _circle() -> np.ndarray:
    return _polar(1.0, np.linspace(0, 2 * np.pi, 48, endpoint=False))


def _crescent() -> np.ndarray:
    horn, offset = np.radians(42), 0.62  # Where the two arcs meet; the shift of the inner circle.
    inner_radius = np.hypot(np.cos(horn) - offset, np.sin(horn))
    inner_horn = np.arctan2(np.sin(horn), np.cos(horn) - offset)
    outer = _polar(1.0, np.linspace(horn, 2 * np.pi - horn, 40))
    inner = _polar(inner_radius, np.linspace(2 * np.pi - inner_horn, inner_horn, 30)) + [offset, 0]
    return np.concatenate([outer, inner[1:-1]])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=1)


def _star() -> np.ndarray:
    return _polar(np.tile([1.0, 0.42], 5), np.arange(10) * np.pi / 5 - np.pi / 2)


_POLYGONS = {
    'arrow': [(-1, -0.3), (0.05, -0.3), (0.05, -0.85), (1, 0), (0.05, 0.85), (0.05, 0.3), (-1, 0.3)],
    'bolt': [(0.42, -1), (-0.62, 0.2), (-0.08, 0.2), (-0.42, 1), (0.62, -0.24), (0.1, -0.24)],
    'circle': _circle(),
    'crescent': _crescent(),
    'cross': [
        *((-0.32, -1), (0.32, -1), (0.32, -0.32), (1, -0.32), (1, 0.32), (0.32, 0.32)),
        *((0.32, 1), (-0.32, 1), (-0.32, 0.32), (-1, 0.32), (-1, -0.32), (-0.32, -0.32)),
    ],
    'heart': _heart(),
    'hourglass': [(-0.75, -1), (0.75, -1), (0.14, 0), (0.75, 1), (-0.75, 1), (-0.14, 0)],
    'square': [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    'star': _star(),
    'triangle': [(0, -1), (0.87, 0.5), (-0.87, 0.5)],
}


@cache
def outline(name: str) -> np.ndarray:
    """Outline of a class as a simple polygon [N, 2] (x right, y down) in the unit circle."""
    points = np.asarray(_POLYGONS[name], dtype=np.float64)
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    return points / np.hypot(*points.T).max()


def random_shape(rng: np.random.Generator, name: str, size: int, radius: tuple[float, float]) -> np.ndarray:
    """Squeeze, turn and place a shape of a class so that it lies wholly in the image.

    The turn stays within ±30°, so that no class turns into another and "horizontal" keeps its meaning.

    Args:
        rng: Source of everything random.
        name: One of ``CLASSES``.
        size: Side of the image in pixels.
        radius: Range of the radius of the bounding circle in pixels.

    Returns:
        Polygon [N, 2] in pixels; the image spans 0 to ``size`` on both axes.
    """
    r = rng.uniform(*radius)
    squeeze = rng.uniform(0.8, 1.0)
    axes = [squeeze, 1.0] if rng.random() < 0.5 else [1.0, squeeze]
    angle = np.radians(rng.uniform(-30, 30))
    centre = rng.uniform(r + 1, size - r - 1, size=2)
    cos, sin = np.cos(angle), np.sin(angle)
    return outline(name) * axes @ np.array([[cos, sin], [-sin, cos]]) * r + centre


def coverage(polygon: np.ndarray, size: int) -> np.ndarray:
    """Fraction of each pixel that a polygon covers.

    Args:
        polygon: Corners [N, 2] in pixels.
        size: Side of the image in pixels.

    Returns:
        Float array [size, size] in 0..1.
    """
    canvas = Image.new('L', (size * SUPERSAMPLE, size * SUPERSAMPLE))
    ImageDraw.Draw(canvas).polygon((polygon * SUPERSAMPLE - 0.5).ravel().tolist(), fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLE), dtype=np.float32) / 255


def stroke(points: np.ndarray, width: float, size: int) -> np.ndarray:
    """Fraction of each pixel that an open line [N, 2] of ``width`` pixels covers: [size, size] in 0..1."""
    canvas = Image.new('L', (size * SUPERSAMPLE, size * SUPERSAMPLE))
    line = (points * SUPERSAMPLE - 0.5).ravel().tolist()
    ImageDraw.Draw(canvas).line(line, fill=255, width=max(1, round(width * SUPERSAMPLE)), joint='curve')
    return np.asarray(canvas.reduce(SUPERSAMPLE), dtype=np.float32) / 255
