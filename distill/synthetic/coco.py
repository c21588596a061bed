"""Scenes of one to six shapes in the layout of COCO 2017.

Boxes, polygons and areas describe the visible part of a shape, as COCO's annotators drew it: where shapes overlap, the
later one hides the earlier. Shapes overlap so little that no visible region has a hole, and polygons suffice.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from distill.synthetic.colours import colour_pair, over, paint, to_image
from distill.synthetic.sets import check_arguments, image_rng, run_jobs, save_jpeg, write_set
from distill.synthetic.shapes import CLASSES, coverage, random_shape
from distill.synthetic.textures import TEXTURES, draw_texture_class, random_texture

MAX_SHAPES = 6
MAX_OVERLAP = 0.25
"""Largest part of a shape that another one may share with it."""
MIN_VISIBLE = 0.6
"""Smallest part of a shape that all later ones together leave visible."""


@dataclass(frozen=True)
class Scene:
    """A picture and the shapes in it.

    Attributes:
        image: The picture.
        labels: Class of each shape as an index into ``CLASSES``, in the order of drawing.
        instances: Map [H, W] of integers: 0 = background, i + 1 = shape i is visible here.
    """

    image: Image.Image
    labels: list[int]
    instances: np.ndarray

    def label_map(self) -> np.ndarray:
        """Map [H, W] of bytes: 0 = other, k + 1 = class k."""
        return np.array([0, *(label + 1 for label in self.labels)], dtype=np.uint8)[self.instances]


def render_scene(seed: int, split: str, index: int, size: int = 128, texture_agreement: float = 0.9) -> Scene:
    """Draw one scene, which the sets in the layouts of COCO and of ADE20K share.

    Args:
        seed: Seed of the whole set.
        split: ``train`` or ``val``.
        index: Number of the scene in its split.
        size: Side in pixels.
        texture_agreement: Probability that the texture of a shape agrees with its class.
    """
    rng = image_rng(seed, f'scenes-{split}', index)
    reference = size / 3.5  # Textures are scaled to the shapes, not to the scene.
    background_is_dark = rng.random() < 0.5
    luma = rng.uniform(0.2, 0.32) if background_is_dark else rng.uniform(0.62, 0.76)
    ground = random_texture(rng, TEXTURES[rng.integers(len(TEXTURES))], size, reference)
    rgb = paint(ground, colour_pair(rng, luma, rng.uniform(0.04, 0.09), rng.uniform(0.05, 0.3)))
    labels, masks, instances = [], [], np.zeros((size, size), dtype=np.int64)
    radius = (max(5.0, 0.09 * size), 0.21 * size)
    for _ in range(rng.integers(1, MAX_SHAPES + 1)):
        label = int(rng.integers(len(CLASSES)))
        alpha = _free_place(rng, label, size, radius, masks, instances)
        if alpha is None:
            continue
        luma = rng.uniform(0.62, 0.8) if background_is_dark else rng.uniform(0.2, 0.34)
        texture = TEXTURES[draw_texture_class(rng, label, texture_agreement)]
        pair = colour_pair(rng, luma, rng.uniform(0.09, 0.14), rng.uniform(0.6, 1.0))
        rgb = over(rgb, paint(random_texture(rng, texture, size, reference), pair), alpha)
        labels.append(label)
        masks.append(alpha >= 0.5)
        instances[masks[-1]] = len(labels)
    return Scene(to_image(rgb), labels, instances)


def _free_place(
    rng: np.random.Generator,
    label: int,
    size: int,
    radius: tuple[float, float],
    masks: list[np.ndarray],
    instances: np.ndarray,
) -> np.ndarray | None:
    """Coverage of a new shape that hides little of the others; None if eight tries find no place for it."""
    for _ in range(8):
        alpha = coverage(random_shape(rng, CLASSES[label], size, radius), size)
        mask = alpha >= 0.5
        area = mask.sum()
        free = True
        for i, other in enumerate(masks):
            overlap = (mask & other).sum() / min(area, other.sum())
            visible = ((instances == i + 1) & ~mask).sum() / other.sum()
            free = free and overlap <= MAX_OVERLAP and visible >= MIN_VISIBLE
        if free:
            return alpha
    return None


def mask_to_polygons(mask: np.ndarray) -> list[np.ndarray]:
    """Outline a mask along the edges of its pixels; pycocotools makes exactly the same mask of the outlines.

    Args:
        mask: Boolean map [H, W] without holes.

    Returns:
        A polygon [N, 2] (x, y in pixels, the image spanning 0 to W and 0 to H) for each part of the mask
        whose pixels share edges.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    down, right = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    successors: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Each edge of a pixel at the border, directed so that the mask lies on its right (y points down).
    for sign, (dx0, dx1) in ((1, (0, 1)), (-1, (1, 0))):
        for y, x in np.argwhere(down == sign).tolist():
            successors.setdefault((x + dx0, y), []).append((x + dx1, y))
        for y, x in np.argwhere(right == sign).tolist():
            successors.setdefault((x, y + dx1), []).append((x, y + dx0))
    polygons = []
    while successors:
        loop = np.array(_walk(successors), dtype=np.float64)
        turns = ((np.roll(loop, 1, axis=0) + np.roll(loop, -1, axis=0)) != 2 * loop).any(axis=1)
        polygons.append(loop[turns])
    return polygons


def _walk(successors: dict[tuple[int, int], list[tuple[int, int]]]) -> list[tuple[int, int]]:
    """Take one closed walk out of the edges.

    The walk turns right where parts of the mask meet at a corner only, so that they stay apart.
    """
    start = next(iter(successors))
    loop, here, step = [], start, (0, 0)
    while True:
        loop.append(here)
        choices = successors[here]
        right = (here[0] - step[1], here[1] + step[0])
        after = right if right in choices else choices[0]
        choices.remove(after)
        if not choices:
            del successors[here]
        step, here = (after[0] - here[0], after[1] - here[1]), after
        if here == start:
            return loop


def _area(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def scene_annotations(scene: Scene) -> list[dict]:
    """COCO annotations of a scene, without ids: category, and polygons, area and box of the visible part."""
    annotations = []
    for i, label in enumerate(scene.labels):
        mask = scene.instances == i + 1
        polygons = mask_to_polygons(mask)
        corners = np.concatenate(polygons)
        (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
        annotations.append(
            {
                'category_id': label + 1,
                'iscrowd': 0,
                'area': sum(_area(polygon) for polygon in polygons),
                'bbox': [x0, y0, x1 - x0, y1 - y0],
                'segmentation': [polygon.ravel().tolist() for polygon in polygons],
            }
        )
    return annotations


def _write_scene(job: tuple[Path, int, str, int], size: int, texture_agreement: float) -> list[dict]:
    path, seed, split, index = job
    scene = render_scene(seed, split, index, size, texture_agreement)
    save_jpeg(scene.image, path)
    return scene_annotations(scene)


def _instances_file(size: int, files: list[str], annotations: list[list[dict]]) -> dict:
    """The contents of ``instances_*.json``."""
    numbered = [(image_id, a) for image_id, found in enumerate(annotations, 1) for a in found]
    return {
        'info': {
            'description': 'Procedural scenes of shapes in the layout of COCO 2017',
            'url': '',
            'version': '1.0',
            'year': 2026,
            'contributor': 'robust-backbones',
            'date_created': '2026/01/01',
        },
        'licenses': [{'id': 1, 'name': 'Apache-2.0', 'url': 'https://www.apache.org/licenses/LICENSE-2.0'}],
        'images': [
            {'id': i, 'file_name': name, 'width': size, 'height': size, 'license': 1, 'date_captured': ''}
            for i, name in enumerate(files, 1)
        ],
        'annotations': [{'id': i, 'image_id': image_id, **a} for i, (image_id, a) in enumerate(numbered, 1)],
        'categories': [{'id': i, 'name': name, 'supercategory': 'shape'} for i, name in enumerate(CLASSES, 1)],
    }


def write_coco(
    root: str | Path,
    size: int = 128,
    train: int = 200,
    val: int = 50,
    seed: int = 0,
    texture_agreement: float = 0.9,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[], None] | None = None,
) -> dict:
    """Write ``root/{train2017,val2017}/%012d.jpg`` and ``root/annotations/instances_{train,val}2017.json``.

    Args:
        root: Where the set goes.
        size: Side of a scene in pixels, 32 or more.
        train: Scenes in ``train2017``.
        val: Scenes in ``val2017``.
        seed: Seed of the set.
        texture_agreement: Probability that the texture of a shape agrees with its class.
        workers: Processes that draw; the files do not depend on it.
        overwrite: Replace a set made with other arguments.
        progress: Called after each scene.

    Returns:
        The contents of ``data.json`` and ``written`` (see `sets.write_set`).

    Raises:
        ValueError: An argument out of range, or another set is there.
    """
    counts = {'train': train, 'val': val}
    check_arguments(size, counts, texture_agreement, seed, workers)
    arguments = {'size': size, **counts, 'seed': seed, 'texture_agreement': texture_agreement}

    def fill(folder: Path) -> dict:
        (folder / 'annotations').mkdir()
        write = partial(_write_scene, size=size, texture_agreement=texture_agreement)
        for split, count in counts.items():
            images = folder / f'{split}2017'
            images.mkdir()
            files = [f'{image_id:012d}.jpg' for image_id in range(1, count + 1)]
            jobs = [(images / name, seed, split, index) for index, name in enumerate(files)]
            annotations = list(run_jobs(write, jobs, workers, progress))
            path = folder / 'annotations' / f'instances_{split}2017.json'
            path.write_text(json.dumps(_instances_file(size, files, annotations)))
        return {f'{split}2017': count for split, count in counts.items()}

    return write_set(root, 'coco', arguments, fill, overwrite)
