"""Shapes, textures and colours of the embedded data, and how a set of them is written to disk.

Ten shapes carry the class, ten texture families are the shortcut: ``TEXTURES[i]`` is the family that agrees
with ``CLASSES[i]``. Everything random is drawn from ``image_rng(seed, split, index)``, so an image depends
neither on the number of images nor on the process that draws it. Lengths scale with the image: the task is
the same at any size. Needs numpy and Pillow only.
"""

import colorsys
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

VERSION = 1
"""Version of the generator: raise it whenever the same arguments give other pictures."""

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
TEXTURES = (
    'horizontal',
    'rings',
    'checker',
    'dots',
    'waves',
    'grid',
    'vertical',
    'blobs',
    'diagonal',
    'speckle',
)
MIN_SIZE_PX = 32
SUPERSAMPLE = 4


def image_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """The random numbers of one image."""
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index])


# ------------------------------------------------------------------------------------------------------------
# Shapes


def _polar(radius: np.ndarray | float, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _circle() -> np.ndarray:
    return _polar(1.0, np.linspace(0, 2 * np.pi, 48, endpoint=False))


def _crescent() -> np.ndarray:
    horn, offset = np.radians(42), 0.62  # where the two arcs meet; how far the inner circle is moved
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
    """A shape of a class, squeezed, turned and placed so that it lies wholly in the image.

    The turn stays within ±30°: no class turns into another, and "horizontal" keeps its meaning.

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


# ------------------------------------------------------------------------------------------------------------
# Textures


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
    """1 where a signed distance in pixels is negative, 0 where it is positive, a pixel of ramp between."""
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


_DRAW_TEXTURE = {name: globals()[f'_{name}'] for name in TEXTURES}


def random_texture(rng: np.random.Generator, family: str, size: int, reference: float) -> np.ndarray:
    """A texture of a family with random phase, tilt and scale.

    Args:
        rng: Source of everything random.
        family: One of ``TEXTURES``.
        size: Side of the image in pixels.
        reference: Side in pixels of what the texture is seen in; a period is 15 to 25 % of it.

    Returns:
        Float array [size, size] in 0..1.
    """
    return _DRAW_TEXTURE[family](rng, size, reference * rng.uniform(0.15, 0.25))


def draw_texture_class(rng: np.random.Generator, label: int, agreement: float) -> int:
    """The class whose texture an object of class ``label`` wears: its own with probability ``agreement``."""
    if rng.random() < agreement:
        return label
    return int((label + rng.integers(1, len(CLASSES))) % len(CLASSES))


# ------------------------------------------------------------------------------------------------------------
# Colours

_LUMA = np.array([0.299, 0.587, 0.114])


def colour(hue: float, saturation: float, luma: float) -> np.ndarray:
    """RGB in 0..1 of a hue (in turns) with the given luma, mixed with white where it would be too bright."""
    rgb = np.array(colorsys.hsv_to_rgb(hue % 1, saturation, 1.0))
    own = rgb @ _LUMA
    if luma <= own:
        return rgb * (luma / own)
    white = (luma - own) / (1 - own)
    return rgb * (1 - white) + white


def colour_pair(rng: np.random.Generator, luma: float, contrast: float, saturation: float) -> np.ndarray:
    """The two colours [2, 3] of a texture: one hue, ``luma`` ± ``contrast``, in random order."""
    hue = rng.random()
    steps = (-contrast, contrast) if rng.random() < 0.5 else (contrast, -contrast)
    return np.stack([colour(hue + rng.uniform(-0.06, 0.06), saturation, luma + step) for step in steps])


def paint(texture: np.ndarray, pair: np.ndarray) -> np.ndarray:
    """Colour a texture [H, W] with two colours [2, 3]: RGB [H, W, 3] in 0..1."""
    return pair[0].astype(np.float32) + texture[..., None] * (pair[1] - pair[0]).astype(np.float32)


def over(below: np.ndarray, above: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay ``above`` on ``below`` (RGB [H, W, 3], or one colour [3]) where ``alpha`` [H, W] says so."""
    return below + alpha[..., None] * (above - below)


def to_image(rgb: np.ndarray) -> Image.Image:
    """RGB [H, W, 3] in 0..1 as an 8-bit image."""
    return Image.fromarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))


def save_jpeg(image: Image.Image, path: str | Path) -> None:
    """Quality 95 without chroma subsampling, which would smear the colours of a 32-pixel image."""
    image.save(path, 'JPEG', quality=95, subsampling=0)


# ------------------------------------------------------------------------------------------------------------
# Sets on disk


def check_arguments(size: int, counts: dict[str, int], texture_agreement: float, seed: int, workers: int) -> None:
    """Raise a one-line ``ValueError`` for what no set can be made of."""
    if size < MIN_SIZE_PX:
        raise ValueError(f'size {size} is too small; choose {MIN_SIZE_PX} pixels or more')
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f'{name} {count} is negative; give a number of images, 0 for none')
    if not 0 <= texture_agreement <= 1:
        raise ValueError(f'texture agreement {texture_agreement} is no probability; choose 0 to 1, 0.1 = independent')
    if seed < 0:
        raise ValueError(f'seed {seed} is negative; choose 0 or more')
    if workers < 1:
        raise ValueError(f'workers {workers} is too few; choose 1 or more')


def run_jobs(function: Callable, jobs: Iterable[tuple], workers: int, progress: Callable | None) -> Iterator:
    """``function(job)`` for each job, in order, in this process or in several.

    Args:
        function: A module-level function of one picklable job.
        jobs: What to do.
        workers: Number of processes; 1 stays in this one.
        progress: Called with no arguments after each job.

    Yields:
        What the function returned.
    """
    if workers == 1:
        results = map(function, jobs)
        pool = None
    else:
        pool = ProcessPoolExecutor(workers, mp_context=get_context('spawn'))
        results = pool.map(function, jobs, chunksize=32)
    try:
        for result in results:
            if progress:
                progress()
            yield result
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


def write_set(root: str | Path, kind: str, arguments: dict, fill: Callable[[Path], dict], overwrite: bool) -> dict:
    """Write a data set as a whole or not at all.

    The set grows in a folder beside its target and is renamed at the end, so what is there is complete, and
    stays as it is when something fails. ``data.json`` at its root says how it was made.

    Args:
        root: Where the set goes.
        kind: Which set it is.
        arguments: What the pictures depend on.
        fill: Writes the set into an empty folder; returns the number of images of each split.
        overwrite: Replace a set made with other arguments.

    Returns:
        What ``data.json`` holds, and ``written``: False if the same set was there already.

    Raises:
        ValueError: The folder holds something else, or the set is there with other arguments or incomplete.
    """
    root = Path(root).resolve()
    manifest = {'generator': 'distill.synthetic', 'version': VERSION, 'set': kind, 'arguments': arguments}
    exists = root.exists() and not (root.is_dir() and not any(root.iterdir()))
    if exists and _is_same(root, manifest, overwrite):
        return json.loads((root / 'data.json').read_text()) | {'written': False}
    partial, replaced = (root.with_name(f'.{root.name}.{os.getpid()}.{end}') for end in ('partial', 'replaced'))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        manifest |= {'classes': list(CLASSES), 'textures': list(TEXTURES), 'images': fill(partial)}
        (partial / 'data.json').write_text(json.dumps(manifest, indent=2) + '\n')
        if exists:
            root.rename(replaced)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if replaced.exists() and not root.exists():
            replaced.rename(root)
        shutil.rmtree(replaced, ignore_errors=True)
    return manifest | {'written': True}


def _is_same(root: Path, manifest: dict, overwrite: bool) -> bool:
    """Whether the set at ``root`` is the wanted one; an error if it is another and may not be replaced."""
    path = root / 'data.json'
    found = json.loads(path.read_text()) if path.is_file() else {}
    if found.get('generator') != manifest['generator']:
        raise ValueError(f'{root} exists and was not made by this generator; choose another folder')
    if overwrite:
        return False
    differences = [
        f'{name} {found["arguments"].get(name)} there, {value} asked'
        for name, value in manifest['arguments'].items()
        if found['arguments'].get(name) != value
    ]
    differences += [f'{n} {found[n]} there, {manifest[n]} asked' for n in ('set', 'version') if found[n] != manifest[n]]
    expected, images = sum(found['images'].values()), sum(1 for _ in root.rglob('*.jpg'))
    if images != expected:
        differences.append(f'{images} of {expected} images there')
    if differences:
        raise ValueError(f'{root} holds another set ({"; ".join(differences)}); choose another folder or --overwrite')
    return True
