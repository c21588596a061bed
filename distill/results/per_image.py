"""What a detector or segmenter did on each image, and the paired difference of two of them on the same images.

mAP and mIoU are no means over images, so that a difference of two has no simple interval. Here images are drawn with
replacement, the same ones for both models, and mAP or mIoU is computed anew from what is known of each image: Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, percentile interval.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from distill.base.records import Cell
from distill.results.statistics import Score

FOLDER = 'per_image'
"""Where the files lie, in the folder of a test's results."""
CLEAN = 'clean'
RESAMPLES = 1000
RECALLS = np.linspace(0, 1, 101)
"""Recalls at which COCO's average precision reads the precision."""
CHUNK = 2**22
"""Numbers that an intermediate array of the bootstrap may hold."""


@dataclass(frozen=True)
class Detections:
    """The detections of a model on N images with K classes, matched with the objects at T overlaps, as COCO does it.

    Attributes:
        images: Names of the images [N].
        image: Index of the image of each detection [D].
        category: Index of its class [D].
        score: Its confidence [D].
        right: Whether it is matched with an object [D, T].
        ignored: Whether it counts neither as right nor as wrong: its object is a crowd [D, T].
        objects: Number of objects of an image and class that count [N, K].
    """

    kind: ClassVar[str] = 'detections'
    images: np.ndarray
    image: np.ndarray
    category: np.ndarray
    score: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    objects: np.ndarray

    def value(self, draws: np.ndarray) -> np.ndarray:
        """COCO's mean average precision [R], the mean over classes that have objects; nan where there is no object.

        Args:
            draws: How often each image is drawn [R, N].
        """
        counts = draws @ self.objects  # [R, K]
        sums, classes = np.zeros(len(draws)), np.zeros(len(draws))
        for category in range(self.objects.shape[1]):
            chosen = np.flatnonzero(self.category == category)
            chosen = chosen[np.argsort(-self.score[chosen], kind='mergesort')]
            has_objects = counts[:, category] > 0
            sums[has_objects] += self._precision(chosen, draws[has_objects], counts[has_objects, category])
            classes += has_objects
        return np.divide(sums, classes, out=np.full(len(draws), np.nan), where=classes > 0)

    def _precision(self, chosen: np.ndarray, draws: np.ndarray, objects: np.ndarray) -> np.ndarray:
        """Average precision of one class [R], the mean over overlaps.

        Args:
            chosen: Its detections, the surest first.
            draws: How often each image is drawn [R, N].
            objects: Number of its objects [R].
        """
        overlaps = self.right.shape[1]
        if not len(chosen):
            return np.zeros(len(draws))
        found = np.zeros(len(draws))
        step = max(1, CHUNK // len(chosen))
        for start in range(0, len(draws), step):
            part = slice(start, start + step)
            weights = draws[part][:, self.image[chosen]].astype(np.float64)  # [r, d]
            for overlap in range(overlaps):
                counted = ~self.ignored[chosen, overlap]
                right = np.cumsum(weights * (counted & self.right[chosen, overlap]), axis=1)
                wrong = np.cumsum(weights * (counted & ~self.right[chosen, overlap]), axis=1)
                recall = right / objects[part, None]
                precision = right / np.maximum(right + wrong, np.spacing(1))
                precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
                # How many of the recalls are reached by each detection, and not before it.
                reached = np.searchsorted(RECALLS, recall, side='right')
                found[part] += (np.diff(reached, axis=1, prepend=0) * precision).sum(axis=1) / len(RECALLS)
        return found / overlaps


@dataclass(frozen=True)
class Regions:
    """The pixels of K classes that a segmenter has found on N images.

    Attributes:
        images: Names of the images [N].
        intersection: Pixels of a class that were found [N, K].
        union: Pixels that are of a class or were taken for it [N, K].
    """

    kind: ClassVar[str] = 'regions'
    images: np.ndarray
    intersection: np.ndarray
    union: np.ndarray

    def value(self, draws: np.ndarray) -> np.ndarray:
        """Mean IoU [R] over the classes that occur; nan where none does.

        Args:
            draws: How often each image is drawn [R, N].
        """
        union = draws @ self.union
        shares = np.divide(draws @ self.intersection, union, out=np.full(union.shape, np.nan), where=union > 0)
        occurring = np.maximum((union > 0).sum(axis=1), 1)
        return np.where((union > 0).any(axis=1), np.nansum(shares, axis=1) / occurring, np.nan)


PerImage = Detections | Regions


def cell_key(cell: Cell | None) -> str:
    """Name of a cell in files: ``fog_3``; None stands for the clean images."""
    return str(cell).replace(' ', '_') if cell else CLEAN


def per_image_file(folder: Path, cell: Cell | None = None) -> Path:
    """The file of a cell, in the folder of a test's results; None stands for the clean images."""
    return folder / FOLDER / f'{cell_key(cell)}.npz'


def write_per_image(path: Path, record: PerImage) -> None:
    """Write what was found on each image as a file of NumPy arrays, which appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp.npz')
    np.savez_compressed(temporary, kind=record.kind, **asdict(record))
    os.replace(temporary, path)


def read_per_image(path: Path) -> PerImage:
    """Read what `write_per_image` has written.

    Raises:
        ValueError: The file is none of these.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        kinds: Mapping[str, type[PerImage]] = {one.kind: one for one in (Detections, Regions)}
        return kinds[str(arrays.pop('kind'))](**arrays)
    except (KeyError, TypeError, ValueError, OSError, EOFError) as error:
        raise ValueError(f"'{path}' holds no scores by image ({type(error).__name__}); test again") from None


def paired_bootstrap(first: Sequence[PerImage], second: Sequence[PerImage], seed: int = 0) -> Score:
    """The mean over cells of a model's score minus that of another one, with its 95 % interval.

    Args:
        first: What one model did in each cell, on the same images in all of them.
        second: The same of the other model, in the same cells.
        seed: Of the draws.

    Returns:
        The difference in points, mAP or mIoU times 100.

    Raises:
        ValueError: The images or the cells differ.
    """
    images = first[0].images
    if len(first) != len(second) or any(not np.array_equal(one.images, images) for one in (*first, *second)):
        raise ValueError('two models can be compared image by image only on the same images and in the same cells')
    draws = drawn(len(images), seed)
    return difference(*(np.mean([one.value(draws) for one in cells], axis=0) for cells in (first, second)))


def drawn(count: int, seed: int = 0) -> np.ndarray:
    """How often each of N images is drawn [1 + R, N]: once each in the first row, at random in the others.

    Args:
        count: Number of images.
        seed: Of the draws.
    """
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return np.concatenate([np.ones((1, count), dtype=draws.dtype), draws])


def difference(first: np.ndarray, second: np.ndarray) -> Score:
    """The difference of two values with its 95 % interval, in points.

    Args:
        first: One value for all images and for each draw of them [1 + R], a fraction.
        second: Another one for the same draws.
    """
    whole, *resampled = 100 * (first - second)
    low, high = np.nanpercentile(resampled, [2.5, 97.5]).tolist()
    return Score(float(whole), low, high)
