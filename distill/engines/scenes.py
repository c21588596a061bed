"""What an exported detector or segmenter says of an image: numpy arrays in, numpy arrays out."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.engines import Session, by_suffix, is_artefact
from distill.engines.artefact import Manifest, caution

DETECTION, SEGMENTATION = 'detection', 'segmentation'
IMAGES, SIZE = 'images', 'size'
"""Inputs of an exported detector or segmenter: the image, and its height and width before it was resized."""


@dataclass(frozen=True)
class Objects:
    """The objects in an image, in its pixels, the surest one first.

    Attributes:
        boxes: Left, top, right, bottom, float32 [N, 4].
        scores: float32 [N].
        labels: int64 [N].
        masks: The pixels of each, bool [N, H, W]; None without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None


def objects_of(outputs: Sequence[str], found: Sequence[np.ndarray], size: tuple[int, int], threshold: float) -> Objects:
    """The objects among what a detector's artefact returns for one image, which is filled up to a fixed number.

    Args:
        outputs: Names of what it returns.
        found: What it returns.
        size: Height and width of the image.
        threshold: From which probability on a pixel belongs to an object.
    """
    named = dict(zip(outputs, (one[0] for one in found), strict=True))
    there = named['labels'] >= 0
    boxes, scores, labels = (named[key][there] for key in ('boxes', 'scores', 'labels'))
    masks = named.get('masks')
    if masks is None:
        return Objects(boxes, scores, labels)
    pasted = np.zeros((len(boxes), *size), bool)
    for one, mask, box in zip(pasted, masks[there], boxes, strict=True):
        paste(one, mask, box, threshold)
    return Objects(boxes, scores, labels, pasted)


class SceneArtefact:
    """An opened artefact of a detector or segmenter.

    Args:
        path: The artefact, with its manifest beside it.
        threads: Of the engine, or None for its own choice.
        device: 'cuda' where the engine is built for it, else the CPU.

    Attributes:
        manifest: What stands beside the artefact.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no artefact of a detector or segmenter, or has no manifest.
    """

    def __init__(self, path: str | os.PathLike, threads: int | None = None, device: str = 'cpu'):
        self.path = os.fspath(path)
        self.manifest = scene_manifest(path)
        self.session = by_suffix(path).open(path, threads, device)
        if line := caution(self.manifest):
            warnings.warn(f'{self.path}: {line}', stacklevel=2)

    @property
    def task(self) -> str:
        """``detection`` or ``segmentation``."""
        return self.manifest.task

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the labels."""
        return list(self.manifest.classes or ())

    def resized(self, image: np.ndarray) -> np.ndarray:
        """See `resized`."""
        return resized(self.manifest, image)

    def resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """See `resized_size`."""
        return resized_size(self.manifest, size)

    def show(self, image: np.ndarray, size: tuple[int, int]) -> Objects | np.ndarray:
        """Show an image to the network.

        Args:
            image: R, G, B, uint8 [h, w, 3], resized as `resized_size` says.
            size: Height H and width W of the image before it was resized.

        Returns:
            The objects of a detector, or the labels [H, W] of a segmenter.

        Raises:
            ValueError: The artefact does not take images of this size.
        """
        return show(self.session, self.manifest, image, size, self.path)


def show(
    session: Session, manifest: Manifest, image: np.ndarray, size: tuple[int, int], path: str = 'the artefact'
) -> Objects | np.ndarray:
    """What an opened artefact says of an image, see `SceneArtefact.show`; `path` is for the error."""
    largest = manifest.details.get('largest')
    if largest is not None and (image.shape[0] > largest[0] or image.shape[1] > largest[1]):
        raise ValueError(
            f"'{path}' takes images of up to {largest[0]}x{largest[1]} pixels (height x width), and this one "
            f'has {image.shape[0]}x{image.shape[1]}; export it for a larger size'
        )
    found = session.run(inputs_of(manifest, image, size))
    if manifest.task == SEGMENTATION:
        return found[0][0]
    return objects_of(manifest.outputs, found, size, manifest.details.get('mask_threshold', 0.5))


def resized_size(manifest: Manifest, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width to which an image of a size (height, width) is resized before an artefact is shown it."""
    resize = manifest.details.get('resize')
    if resize is None:
        return size
    (width, height), longer, shorter = resize['scale'], max(resize['scale']), min(resize['scale'])
    if not resize['keep_ratio']:
        return int(height), int(width)
    ratio = min(longer / max(size), shorter / min(size))
    return int(size[0] * ratio + 0.5), int(size[1] * ratio + 0.5)


def resized(manifest: Manifest, image: np.ndarray) -> np.ndarray:
    """An image [H, W, 3] as an artefact is shown it, as mmcv resizes.

    Raises:
        ValueError: The image is so narrow that nothing is left of it.
    """
    import cv2

    size = image.shape[0], image.shape[1]
    height, width = resized_size(manifest, size)
    if not height or not width:
        raise ValueError('it is too narrow to be resized')
    return image if (height, width) == size else cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def inputs_of(manifest: Manifest, image: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """What an artefact takes of an image, by name.

    Args:
        manifest: What stands beside the artefact.
        image: R, G, B, uint8 [h, w, 3], resized.
        size: Height and width of the image before it was resized.
    """
    mean, std = ([255 * level for level in one] for one in (manifest.mean, manifest.std))
    return {IMAGES: as_input(image, manifest.dtype, mean, std), SIZE: np.array(size, np.int64)}


def scene_manifest(path: str | os.PathLike) -> Manifest:
    """The manifest of a detector's or segmenter's artefact.

    Raises:
        ValueError: There is none, or it is that of another task.
    """
    manifest = Manifest.read(path)
    if manifest is None:
        raise ValueError(
            f"'{path}' has no '{Manifest.path_beside(path).name}' beside it; copy both, or export it again"
        )
    if manifest.task not in (DETECTION, SEGMENTATION):
        raise ValueError(f"'{path}' is of the task {manifest.task}; give an artefact of a detector or segmenter")
    return manifest


def is_scene_artefact(path: str | os.PathLike) -> bool:
    """Whether a file is an artefact of a detector or segmenter, by its manifest."""
    if not is_artefact(path) or not os.path.isfile(path):
        return False
    manifest = Manifest.read(path)
    return manifest is not None and manifest.task in (DETECTION, SEGMENTATION)


def as_input(image: np.ndarray, dtype: str, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """An image [h, w, 3] as a detector's or segmenter's graph takes it [1, 3, h, w].

    Args:
        image: R, G, B, uint8.
        dtype: ``uint8`` for the image as it is, ``float32`` for a normalised one.
        mean: Mean of each channel, of values in 0 to 255.
        std: Standard deviation, likewise.
    """
    batch = np.ascontiguousarray(image.transpose(2, 0, 1))[None]
    if dtype == 'uint8':
        return batch
    means, deviations = (np.array(one, np.float32).reshape(3, 1, 1) for one in (mean, std))
    return (batch.astype(np.float32) - means) / deviations


def paste(canvas: np.ndarray, mask: np.ndarray, box: np.ndarray, threshold: float) -> None:
    """Set the pixels of an image that belong to an object, as mmdet does.

    Args:
        canvas: bool [H, W], all False.
        mask: Probabilities of the cells of the box [M, M].
        box: Left, top, right, bottom, in pixels.
        threshold: The least probability of a pixel that belongs to the object.
    """
    left, top, right, bottom = map(float, box)
    if right <= left or bottom <= top:
        return
    rows = slice(max(int(top) - 1, 0), min(int(np.ceil(bottom)) + 1, canvas.shape[0]))
    columns = slice(max(int(left) - 1, 0), min(int(np.ceil(right)) + 1, canvas.shape[1]))
    down, across = _interpolation(rows, top, bottom, len(mask)), _interpolation(columns, left, right, len(mask))
    canvas[rows, columns] = down @ mask @ across.T >= threshold


def _interpolation(pixels: slice, start: float, end: float, cells: int) -> np.ndarray:
    """Weights [P, M] of a linear interpolation between cells at pixels; beyond the cells there is nothing."""
    places = (np.arange(pixels.start, pixels.stop) + 0.5 - start) / (end - start) * cells - 0.5
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(cells))).astype(np.float32)
