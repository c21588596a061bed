"""An ImageNet-like set of shapes on textures, with shifted sets of the same meaning as ImageNet's.

===========  ====================  ==========================================================================
folder       after                 images
===========  ====================  ==========================================================================
train, val   ImageNet              the texture agrees with the class with probability 0.9
stylized     Stylized-ImageNet,    shape of the class, texture of another one, both in the file name:
             cue conflict          ``<shape><n>-<texture><m>.jpg``
rendition    ImageNet-R            negative, posterised, embossed, outlined; 7 of the 10 classes
sketch       ImageNet-Sketch       wobbly black lines on white paper
adversarial  ImageNet-A            small, and occluded, cluttered or of low contrast; 6 of the 10 classes
===========  ====================  ==========================================================================

Renditions and adversarial images wear textures drawn independently of the class; sketches have none.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from distill.synthetic.colours import colour, colour_pair, over, paint, to_image
from distill.synthetic.sets import check_arguments, image_rng, run_jobs, save_jpeg, write_set
from distill.synthetic.shapes import CLASSES, coverage, random_shape, stroke
from distill.synthetic.textures import TEXTURES, draw_texture_class, random_texture

SHIFTED = ('stylized', 'rendition', 'sketch', 'adversarial')
SPLITS = ('train', 'val', *SHIFTED)
SUBSETS = {
    'rendition': ('arrow', 'bolt', 'crescent', 'cross', 'heart', 'star', 'triangle'),
    'adversarial': ('arrow', 'circle', 'cross', 'heart', 'hourglass', 'star'),
}
"""The classes of the splits that do not show all."""

INDEPENDENT = 1 / len(CLASSES)


def split_classes(split: str) -> tuple[str, ...]:
    """The class names that a split shows, in the order of ``CLASSES``."""
    return SUBSETS.get(split, CLASSES)


def _colour_pairs(rng: np.random.Generator, low_contrast: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Colours of background and fill: one dark and one light, so that the outline shows under any texture."""
    if low_contrast:
        middle, gap = rng.uniform(0.35, 0.65), rng.uniform(0.15, 0.2)
        lumas, contrasts = [middle - gap, middle + gap], rng.uniform(0.04, 0.07, size=2)
    else:
        lumas, contrasts = [rng.uniform(0.18, 0.3), rng.uniform(0.62, 0.78)], rng.uniform(0.08, 0.14, size=2)
    if rng.random() < 0.5:
        lumas.reverse()
    return tuple(colour_pair(rng, luma, c, rng.uniform(0.3, 0.9)) for luma, c in zip(lumas, contrasts, strict=True))


def _photo(rng: np.random.Generator, label: int, texture: int, size: int) -> np.ndarray:
    """An ordinary image: RGB [size, size, 3]."""
    shape = random_shape(rng, CLASSES[label], size, (0.28 * size, 0.44 * size))
    pattern = random_texture(rng, TEXTURES[texture], size, size)
    background, fill = _colour_pairs(rng)
    return over(paint(pattern, background), paint(pattern, fill), coverage(shape, size))


def _rendition(rng: np.random.Generator, label: int, texture: int, size: int) -> np.ndarray:
    style = ('negative', 'posterised', 'embossed', 'outlined')[rng.integers(4)]
    if style == 'outlined':
        return _outlined(rng, label, size)
    if style == 'embossed':
        return _embossed(rng, label, texture, size)
    change = ImageOps.invert if style == 'negative' else partial(ImageOps.posterize, bits=2)
    return np.asarray(change(to_image(_photo(rng, label, texture, size))), dtype=np.float32) / 255


def _embossed(rng: np.random.Generator, label: int, texture: int, size: int) -> np.ndarray:
    """The shape pressed into a lightly textured sheet of one colour, lit from a corner."""
    shape = random_shape(rng, CLASSES[label], size, (0.28 * size, 0.44 * size))
    height = coverage(shape, size) + 0.15 * random_texture(rng, TEXTURES[texture], size, size)
    depth = max(1, round(size / 20))
    padded = np.pad(height, depth, mode='edge')
    slope = padded[: -2 * depth, : -2 * depth] - padded[2 * depth :, 2 * depth :]
    sheet = colour(rng.random(), rng.uniform(0.05, 0.3), 0.5).astype(np.float32)
    return sheet + rng.choice([-0.4, 0.4]) * slope[..., None]


def _outlined(rng: np.random.Generator, label: int, size: int) -> np.ndarray:
    """Plain colours and a thick dark outline, as in a comic."""
    shape = random_shape(rng, CLASSES[label], size, (0.28 * size, 0.42 * size))
    paper, fill = (colour(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.5, 0.9)) for _ in range(2))
    rgb = np.broadcast_to(paper.astype(np.float32), (size, size, 3))
    rgb = over(rgb, fill, coverage(shape, size))
    closed = np.concatenate([shape, shape[:2]])
    return over(rgb, np.full(3, 0.05), stroke(closed, size * rng.uniform(0.04, 0.07), size))


def _wobbly(rng: np.random.Generator, shape: np.ndarray, amplitude: float) -> np.ndarray:
    """The outline as drawn by hand: 80 points, displaced by a smooth curve, which leaves the ends apart."""
    closed = np.concatenate([shape, shape[:1]])
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    at = np.linspace(0, length[-1], 80)
    points = np.stack([np.interp(at, length, axis) for axis in closed.T], axis=1)
    turns = at[:, None, None] / length[-1] * 2 * np.pi * rng.uniform(1, 7, size=(1, 2, 4))
    return points + amplitude * np.sin(turns + rng.uniform(0, 2 * np.pi, size=(1, 2, 4))).mean(axis=2)


def _sketch(rng: np.random.Generator, label: int, size: int) -> np.ndarray:
    shape = random_shape(rng, CLASSES[label], size, (0.3 * size, 0.44 * size))
    rgb = np.full((size, size, 3), rng.uniform(0.94, 1), dtype=np.float32)
    width = size * rng.uniform(0.035, 0.06)
    for _ in range(rng.integers(1, 3)):
        line = stroke(_wobbly(rng, shape, 0.035 * size), width, size)
        rgb = over(rgb, np.full(3, rng.uniform(0, 0.25)), line)
    return rgb


def _adversarial(rng: np.random.Generator, label: int, texture: int, size: int) -> np.ndarray:
    """A small shape with one or two difficulties: clutter around it, a bar across it, little contrast."""
    clutter, occluded, faint = rng.permutation([True, rng.random() < 0.5, False])
    shape = random_shape(rng, CLASSES[label], size, (0.22 * size, 0.3 * size))
    pattern = random_texture(rng, TEXTURES[texture], size, size)
    background, fill = _colour_pairs(rng, faint)
    rgb, alpha = paint(pattern, background), coverage(shape, size)
    if clutter:
        for _ in range(rng.integers(3, 7)):
            rgb = over(rgb, fill[rng.integers(2)], coverage(_splinter(rng, size), size))
    rgb = over(rgb, paint(pattern, fill), alpha)
    if occluded:
        rgb = over(rgb, colour(rng.random(), 0.6, rng.uniform(0.2, 0.8)), _bar(rng, shape, size))
    return rgb


def _splinter(rng: np.random.Generator, size: int) -> np.ndarray:
    """A small irregular quadrilateral anywhere in the image."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, size=4))
    spokes = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.04, 0.1, size=(4, 1))
    return (spokes + rng.uniform(0, 1, size=2)) * size


def _bar(rng: np.random.Generator, shape: np.ndarray, size: int) -> np.ndarray:
    """Coverage of a bar that crosses the shape off its centre, about a quarter as wide as the shape."""
    low, high = shape.min(axis=0), shape.max(axis=0)
    extent = (high - low).mean()
    angle = rng.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    offset = rng.choice([-1, 1]) * rng.uniform(0.15, 0.35)
    middle = (low + high) / 2 + across * extent * offset
    return stroke(np.stack([middle - 2 * size * along, middle + 2 * size * along]), 0.22 * extent, size)


def draw_classes(rng: np.random.Generator, split: str, index: int, texture_agreement: float) -> tuple[int, int]:
    """Choose the class of an image, and the class whose texture it wears.

    Args:
        rng: The image's generator, which has drawn nothing yet.
        split: One of ``SPLITS``.
        index: Number of the image in its split.
        texture_agreement: Probability that the texture agrees with the class in train and val.
    """
    names = split_classes(split)
    label = CLASSES.index(names[index % len(names)])
    if split == 'stylized':
        # Every pair of classes comes equally often; ten images in a row show ten shapes and ten textures.
        return label, (label + 1 + index // len(names) % (len(CLASSES) - 1)) % len(CLASSES)
    agreement = texture_agreement if split in ('train', 'val') else INDEPENDENT
    return label, draw_texture_class(rng, label, agreement)


def render_image(
    seed: int, split: str, index: int, size: int = 32, texture_agreement: float = 0.9
) -> tuple[Image.Image, int, int]:
    """Draw one image of the set.

    Args:
        seed: Seed of the whole set.
        split: One of ``SPLITS``.
        index: Number of the image in its split; the classes of the split take turns.
        size: Side in pixels.
        texture_agreement: Probability that the texture agrees with the class in train and val.

    Returns:
        The image, its class and the class whose texture it wears, as indices into ``CLASSES``. Sketches and outlined
        renditions show no texture.
    """
    if split not in SPLITS:
        raise ValueError(f'split {split!r} is unknown; choose from {", ".join(SPLITS)}')
    rng = image_rng(seed, f'imagenet-{split}', index)
    label, texture = draw_classes(rng, split, index, texture_agreement)
    if split == 'sketch':
        rgb = _sketch(rng, label, size)
    elif split == 'rendition':
        rgb = _rendition(rng, label, texture, size)
    elif split == 'adversarial':
        rgb = _adversarial(rng, label, texture, size)
    else:
        rgb = _photo(rng, label, texture, size)
    return to_image(rgb), label, texture


def _write_image(job: tuple[Path, int, str, int], size: int, texture_agreement: float) -> None:
    folder, seed, split, index = job
    image, label, texture = render_image(seed, split, index, size, texture_agreement)
    number = index // len(split_classes(split)) + 1
    shape = CLASSES[label]
    suffix = f'{number}-{CLASSES[texture]}{number}' if split == 'stylized' else f'_{number:05d}'
    save_jpeg(image, folder / split / shape / f'{shape}{suffix}.jpg')


def write_imagenet_like(
    root: str | Path,
    size: int = 32,
    train: int = 2000,
    val: int = 500,
    shifted: int = 500,
    seed: int = 0,
    texture_agreement: float = 0.9,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[], None] | None = None,
) -> dict:
    """Write ``root/{train,val,stylized,rendition,sketch,adversarial}/<class>/*.jpg``.

    Args:
        root: Where the set goes.
        size: Side of an image in pixels, 32 or more.
        train: Images in ``train``, over all classes; 0 leaves the split out.
        val: Images in ``val``.
        shifted: Images in each of the four shifted sets.
        seed: Seed of the set.
        texture_agreement: Probability that the texture agrees with the class in train and val.
        workers: Processes that draw; the files do not depend on it.
        overwrite: Replace a set made with other arguments.
        progress: Called after each image.

    Returns:
        The contents of ``data.json`` and ``written`` (see `sets.write_set`).

    Raises:
        ValueError: An argument out of range, or another set is there.
    """
    counts = {'train': train, 'val': val, 'shifted': shifted}
    check_arguments(size, counts, texture_agreement, seed, workers)
    for name, count in counts.items():
        if 0 < count < len(CLASSES):
            raise ValueError(f'{name} {count} leaves classes empty; give {len(CLASSES)} images or more, or 0 for none')
    arguments = {'size': size, **counts, 'seed': seed, 'texture_agreement': texture_agreement}
    images = {split: shifted if split in SHIFTED else counts[split] for split in SPLITS}
    images = {split: count for split, count in images.items() if count}

    def fill(folder: Path) -> dict:
        for split in images:
            for name in split_classes(split):
                (folder / split / name).mkdir(parents=True)
        jobs = [(folder, seed, split, index) for split, count in images.items() for index in range(count)]
        write = partial(_write_image, size=size, texture_agreement=texture_agreement)
        for _ in run_jobs(write, jobs, workers, progress):
            pass
        return images

    return write_set(root, 'imagenet', arguments, fill, overwrite)
