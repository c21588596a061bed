"""Textures of frost: those of an installed imagecorruptions-imaug, or else generated ones."""

import importlib.util
import math
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

FILES = ('frost1.png', 'frost2.png', 'frost3.png', 'frost4.jpg', 'frost5.jpg', 'frost6.jpg')

STATISTICS = (
    ((78, 149, 166), (27, 17, 15)),
    ((201, 205, 215), (21, 22, 23)),
    ((201, 205, 215), (21, 22, 23)),
    ((138, 153, 165), (29, 29, 30)),
    ((112, 123, 135), (44, 43, 42)),
    ((71, 95, 104), (35, 43, 47)),
)
"""Mean and standard deviation of red, green and blue of each file; the generated stand-in has the same."""

GENERATED_SIZE = (400, 560)


def _packaged_files() -> list[Path] | None:
    """Find the packaged textures without importing the package; None if one is missing."""
    spec = importlib.util.find_spec('imagecorruptions')
    if spec is None or spec.origin is None:
        return None
    paths = [Path(spec.origin).parent / 'frost' / name for name in FILES]
    return paths if all(path.is_file() for path in paths) else None


def frost_source() -> str:
    """Tell where the textures come from, 'imagecorruptions-imaug' or 'generated': scores on frost depend on it."""
    return 'generated' if _packaged_files() is None else 'imagecorruptions-imaug'


@lru_cache(maxsize=2 * len(FILES))
def _texture(index: int, scale: float) -> np.ndarray:
    paths = _packaged_files()
    if scale != 1:
        texture = _texture(index, 1)
        size = math.ceil(texture.shape[1] * scale), math.ceil(texture.shape[0] * scale)
        return cv2.resize(texture, size, interpolation=cv2.INTER_CUBIC)
    if paths is None:
        return generated_texture(index)
    return cv2.cvtColor(cv2.imread(str(paths[index])), cv2.COLOR_BGR2RGB)


def frost_texture(index: int, height: int, width: int, enlarge: bool) -> np.ndarray:
    """Return a texture that is larger than an image, uint8 RGB.

    Args:
        index: Of `FILES`.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        enlarge: Whether to enlarge the texture by a tenth even if it is larger than the image as it is.
    """
    texture = _texture(index, 1)
    ratio = max(height / texture.shape[0], width / texture.shape[1])
    return _texture(index, 1.1 * max(ratio, 1)) if enlarge or ratio >= 1 else texture


def generated_texture(index: int) -> np.ndarray:
    """Draw ferns of ice on cloudy glass in the colours of texture `index`: uint8 RGB of `GENERATED_SIZE`."""
    rng = np.random.default_rng([2019, index])
    height, width = GENERATED_SIZE
    ice = np.zeros(GENERATED_SIZE, np.float32)
    for _ in range(260):
        layer = np.zeros(GENERATED_SIZE, np.uint8)
        stem = rng.uniform((0, 0), (width, height))
        _draw_fern(layer, stem, rng.uniform(0, 2 * math.pi), rng.uniform(30, 110), rng)
        left, top, columns, rows = cv2.boundingRect(layer)
        area = np.s_[top : top + rows, left : left + columns]
        # Each fern covers what grew before it, and is lit by its direction to the light.
        ice[area] = np.where(layer[area] > 0, layer[area] * np.float32(rng.uniform(0.3, 1)), ice[area])
    clouds = sum(
        scale * cv2.resize(rng.standard_normal((height // scale, width // scale)), (width, height), interpolation=2)
        for scale in (8, 32, 80)
    )
    grain = cv2.GaussianBlur(rng.standard_normal(GENERATED_SIZE), (0, 0), 0.8)
    texture = ice / ice.std() + 0.5 * clouds / clouds.std() + 0.5 * grain / grain.std()
    texture = (texture - texture.mean())[..., None] / texture.std()
    mean, deviation = np.array(STATISTICS[index])
    return np.clip(mean + deviation * texture, 0, 255).astype(np.uint8)


def _draw_fern(layer: np.ndarray, start: np.ndarray, angle: float, length: float, rng: np.random.Generator) -> None:
    """Draw a stem and its side branches, 60° apart as in ice, shorter towards the tip."""
    direction = np.array([math.cos(angle), math.sin(angle)])
    cv2.line(layer, *_points(start, start + length * direction), 255, 1, cv2.LINE_AA)
    for along in np.arange(0.08, 1, 5 / length):
        for side in (-1, 1):
            reach = 0.45 * length * (1 - along) * rng.uniform(0.6, 1)
            turned = angle + side * math.pi / 3
            root = start + along * length * direction
            tip = root + reach * np.array([math.cos(turned), math.sin(turned)])
            cv2.line(layer, *_points(root, tip), int(rng.uniform(120, 255)), 2, cv2.LINE_AA)


def _points(*points: np.ndarray) -> list[tuple[int, int]]:
    return [(round(x), round(y)) for x, y in points]
