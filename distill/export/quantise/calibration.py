"""Images that ranges of activations are measured on: a folder's, clean or shifted, as the artefact is shown them."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from distill.base.folders import find_images
from distill.base.images import read_image
from distill.base.records import EXTRA_KINDS, SEVERITIES, Cell
from distill.corruptions import corrupt
from distill.engines.artefact import Manifest
from distill.engines.scenes import DETECTION, SEGMENTATION, inputs_of, resized
from distill.export.images import as_input as prepare

SHIFTS = ('clean', 'shifted', 'both')
"""Which images calibrate: as they are, each corrupted by one of ``EXTRA_KINDS``, or every other one corrupted."""
LEAST = 2
"""One image says nothing about the range of others."""

Show = Callable[[Image.Image], np.ndarray]
"""Gives what an artefact is shown of an RGB image before normalisation: uint8 [H, W, 3]."""


@dataclass(frozen=True)
class Calibration:
    """Images to calibrate on.

    Attributes:
        images: uint8 [H, W, 3] each, RGB, as the artefact is shown them before normalisation; of one size for a
            classifier.
        about: What the manifest says of them: ``folder``, ``sha256``, ``images``, ``shift``, ``cells``, ``seed``.
        sizes: For a detector or segmenter height and width of each image before it was resized.
    """

    images: np.ndarray | list[np.ndarray]
    about: dict
    sizes: Sequence[tuple[int, int]] = ()

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> 'Calibration':
        """The same with fewer images, evenly spread."""
        chosen = spread(len(self), count)
        images = self.images[chosen] if isinstance(self.images, np.ndarray) else [self.images[k] for k in chosen]
        sizes = [self.sizes[k] for k in chosen] if self.sizes else ()
        return Calibration(images, {**self.about, 'images': len(chosen)}, sizes)

    def inputs(self, manifest: Manifest, batch: int = 1) -> Iterator[np.ndarray | dict[str, np.ndarray]]:
        """What the artefact takes, a batch at a time; what is left over by whole batches is not shown.

        A detector or segmenter takes its images one by one, each with its size.
        """
        if self.sizes:
            for image, size in zip(self.images, self.sizes, strict=True):
                yield inputs_of(manifest, image, size)
            return
        for start in range(0, len(self) - batch + 1, batch):
            yield as_input(np.asarray(self.images[start : start + batch]), manifest)


def read_calibration(
    folder: str | Path,
    manifest: Manifest,
    count: int = 200,
    shift: str = SHIFTS[0],
    seed: int = 0,
    show: Show | None = None,
) -> Calibration:
    """Read images of a folder and of the folders below it, evenly spread.

    Args:
        folder: The folder; its images need no labels.
        manifest: Of the artefact that is to be calibrated.
        count: Number of images at the most.
        shift: Of ``SHIFTS``.
        seed: Chooses the corruption and its severity for each image, and draws the corruption.
        show: How images are resized and cropped; None takes what the manifest says.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The folder has less than two images, one cannot be decoded, or an argument is out of range.
    """
    if shift not in SHIFTS:
        raise ValueError(f"calibration shift '{shift}' is unknown; choose from {', '.join(SHIFTS)}")
    if count < LEAST:
        raise ValueError(f'{count} calibration images say nothing about a range; take {LEAST} or more, such as 200')
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"calibration folder '{folder}' does not exist; give one of images like the model's")
    paths = sorted(find_images(folder), key=lambda path: path.split('/'))
    if len(paths) < LEAST:
        found = 'one image' if paths else 'no image'
        raise ValueError(f"calibration folder '{folder}' has {found}; give one of {LEAST} or more, such as 200")
    chosen = [paths[index] for index in spread(len(paths), count)]
    is_scene, sizes = manifest.task in (DETECTION, SEGMENTATION), []
    show = show or ((lambda image: resized(manifest, np.asarray(image))) if is_scene else classifier_view(manifest))
    shown = []
    for path in chosen:
        image = read_image(folder / path)[0]
        shown.append(show(image))
        sizes.append((image.height, image.width))
    cells = _shift(shown, shift, seed)
    about = {
        'folder': str(folder),
        'sha256': _sha256(folder, chosen),
        'images': len(chosen),
        'shift': shift,
        'cells': [str(cell) for cell in cells],
        'seed': seed,
    }
    return Calibration(shown, about, sizes) if is_scene else Calibration(np.stack(shown), about)


def spread(total: int, count: int) -> list[int]:
    """Indices of `count` of `total` things, evenly spread, or of all."""
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def classifier_view(manifest: Manifest) -> Show:
    """How a classifier's images are resized and cropped, as its manifest says."""
    from timm.data import create_transform

    transform = create_transform(
        (3, *manifest.size),
        interpolation=manifest.interpolation,
        crop_pct=manifest.crop_pct,
        crop_mode=manifest.crop_mode,
        use_prefetcher=True,  # Gives uint8 and does not normalise.
    )
    return lambda image: np.asarray(transform(image)).transpose(1, 2, 0)


def as_input(images: np.ndarray, manifest: Manifest) -> np.ndarray:
    """What an artefact takes of uint8 images [B, H, W, 3]: [B, 3, H, W], normalised unless it does that itself."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return prepare(planes, manifest.dtype, manifest.mean, manifest.std)


def _shift(images: list[np.ndarray], shift: str, seed: int) -> Sequence[Cell]:
    """Corrupt images, in place, by kinds that the benchmark does not hold; returns the cells that occur."""
    rng, cells = np.random.default_rng(seed), set()
    for index in range(0, 0 if shift == 'clean' else len(images), 1 if shift == 'shifted' else 2):
        cell = Cell(EXTRA_KINDS[rng.integers(len(EXTRA_KINDS))], SEVERITIES[rng.integers(len(SEVERITIES))])
        images[index] = corrupt(images[index][None], cell.kind, cell.severity, [(seed, index)])[0]
        cells.add(cell)
    return sorted(cells, key=lambda cell: (EXTRA_KINDS.index(cell.kind), cell.severity))


def _sha256(folder: Path, paths: Sequence[str]) -> str:
    """Hash of the paths and sizes of images, as suites have it."""
    listed = ''.join(f'{path} {(folder / path).stat().st_size}\n' for path in paths)
    return hashlib.sha256(listed.encode()).hexdigest()
