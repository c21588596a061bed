"""The images of a suite as the models see them: decoded once and shown in every cell."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from distill.base.devices import to_device
from distill.base.images import STORED_MODES, read_image
from distill.base.memory import keep_freed_memory
from distill.base.records import CORRUPTED_ON, Cell
from distill.corruptions import DEFINITIONS, corrupt
from distill.corruptions.tensors.table import Drawn, corrupt_drawn, draw
from distill.robustness.suite_table import DISK, ON_THE_FLY
from distill.robustness.suites import ImageSet

IMAGES_IN_ALL_CELLS = 4
"""How many images a worker corrupts at a time: at 224 pixels 75 cells of each take 11 MB."""
DRAWN_BYTES = 1 << 28
"""Most memory of the random numbers that a worker draws at a time for a card, about."""
DRAWN_BYTES_A_PIXEL = 3.5
"""The mean of all kinds, for a pixel of a cell."""
MOST_IMAGES_DRAWN = 256


class Uncorrupted(NamedTuple):
    """Images with what is needed to corrupt them elsewhere.

    Attributes:
        images: uint8 [B, 3, H, W].
        cells: What they are corrupted by.
        drawn: The random numbers.
        definition: Whose corruptions are made.
    """

    images: Tensor
    cells: Sequence[Cell]
    drawn: Drawn
    definition: str

    def corrupted(self, device: torch.device | str) -> Tensor:
        """The images in all cells, uint8 [B, cells, 3, H, W], made on a device."""
        images, drawn = to_device(self.images, device), self.drawn.to(device)
        return corrupt_drawn(images, self.cells, drawn, self.definition)


class SuiteImages(Dataset):
    """The images of a suite, each in all its cells, read a batch at a time.

    Args:
        image_set: What lies on disk.
        transform: Arguments of timm's evaluation transform: size, interpolation, crop.
        fixed_size: The one size that the models take, or None for any.
        seed: Seed of the corruptions.
        definition: Whose corruptions are made: see `corrupt`.
        corrupt_on: Of `CORRUPTED_ON`.

    Attributes:
        input_size: Height and width of what is shown.
        as_stored: Whether images are shown as they are stored.
        resized_from: Side of the stored images where the models take another size only; otherwise None.
    """

    def __init__(
        self,
        image_set: ImageSet,
        transform: Mapping,
        fixed_size: tuple[int, int] | None = None,
        seed: int = 0,
        definition: str = DEFINITIONS[0],
        corrupt_on: str = CORRUPTED_ON[0],
    ):
        self.image_set, self.seed, self.definition, self.corrupt_on = image_set, seed, definition, corrupt_on
        stored = image_set.suite.stored_px
        self.resized_from = stored if stored and fixed_size not in (None, (stored, stored)) else None
        self.as_stored = stored is not None and self.resized_from is None
        self.input_size = (stored, stored) if self.as_stored else tuple(transform['input_size'])
        if self.resized_from:
            transform = {**transform, 'crop_pct': 1.0}
        self.transform = create_transform(**transform, use_prefetcher=True)

    def __len__(self) -> int:
        return len(self.image_set.paths)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor | Uncorrupted, np.ndarray, np.ndarray]:
        """Show images in all cells.

        Returns:
            The images, uint8 [B, cells, 3, H, W], or what `Uncorrupted` makes them of; `indices` [B]; and the places of
            their modes in `STORED_MODES` [B].
        """
        image_set, chosen = self.image_set, np.asarray(indices)
        if image_set.suite.corrupted == DISK:
            shown, modes = self._read([(index, place) for index in indices for place in range(len(image_set.cells))])
            return shown.unflatten(0, (len(chosen), -1)), chosen, modes.reshape(len(chosen), -1).max(axis=1)
        shown, modes = self._read([(index, 0) for index in indices])
        if self.draws_only:
            return self._draw(shown, indices), chosen, modes
        if image_set.suite.corrupted == ON_THE_FLY:
            return self._corrupt(shown, indices, image_set.corruptions), chosen, modes
        return shown[:, None], chosen, modes

    @property
    def draws_only(self) -> bool:
        """Whether the images are corrupted where the models run."""
        return self.image_set.suite.corrupted == ON_THE_FLY and self.corrupt_on == 'device'

    @property
    def at_a_time(self) -> int:
        """How many images are shown in all cells at a time."""
        if not self.draws_only:
            return IMAGES_IN_ALL_CELLS
        each = DRAWN_BYTES_A_PIXEL * math.prod(self.input_size) * len(self.image_set.cells)
        return max(1, min(int(DRAWN_BYTES / each), MOST_IMAGES_DRAWN))

    def show(self, index: int, place: int) -> Image.Image:
        """Show one image in the cell at one place of the set's cells, for people."""
        cell = self.image_set.cells[place]
        if cell is None or self.image_set.suite.corrupted == DISK:
            return to_pil_image(self._read([(index, place)])[0][0])
        return to_pil_image(self._corrupt(self._read([(index, 0)])[0], [index], [cell])[0, 0])

    def _corrupt(self, images: Tensor, indices: Sequence[int], cells: Sequence[Cell]) -> Tensor:
        """Corrupt images [B, 3, H, W] as in each of the cells: [B, cells, 3, H, W]."""
        pixels, seeds = self._pixels_and_seeds(images, indices)
        shown = np.empty((len(pixels), len(cells), *pixels.shape[1:]), np.uint8)
        for row, cell in enumerate(cells):
            shown[:, row] = corrupt(pixels, cell.kind, cell.severity, seeds, self.definition)
        return torch.from_numpy(shown).permute(0, 1, 4, 2, 3)

    def _draw(self, images: Tensor, indices: Sequence[int]) -> Uncorrupted:
        """Draw what corrupts images [B, 3, H, W] in all cells."""
        cells = self.image_set.corruptions
        pixels, seeds = self._pixels_and_seeds(images, indices)
        drawn = draw(pixels, cells, seeds, self.definition)
        return Uncorrupted(images, cells, drawn, self.definition)

    def _pixels_and_seeds(self, images: Tensor, indices: Sequence[int]) -> tuple[np.ndarray, list[tuple[int, int]]]:
        return images.permute(0, 2, 3, 1).contiguous().numpy(), [(self.seed, int(index)) for index in indices]

    def _read(self, files: Sequence[tuple[int, int]]) -> tuple[Tensor, np.ndarray]:
        """Read images [B, 3, H, W] by index and place of the cell, and the places of their modes [B]."""
        images, modes = zip(*(self._read_one(index, cell) for index, cell in files), strict=True)
        return torch.stack(images), np.array(modes)

    def _read_one(self, index: int, cell: int) -> tuple[Tensor, int]:
        path = self.image_set.folders[cell] / self.image_set.paths[index]
        if not path.is_file():
            raise ValueError(f"image '{path}' is missing, though another cell has it; unpack the set again")
        image, mode = read_image(path)
        if not self.as_stored:
            return self.transform(image), STORED_MODES.index(mode)
        expected = self.input_size[::-1]
        if image.size != expected:
            raise ValueError(
                f"image '{path}' has {image.width}x{image.height} pixels; suite {self.image_set.suite.name} is stored "
                f'at {expected[0]}x{expected[1]} and shown as it is: unpack the published files'
            )
        return pil_to_tensor(image), STORED_MODES.index(mode)


def load_batches(images: SuiteImages, indices: Iterable[int], batch_size: int, workers: int) -> DataLoader:
    """Load batches of (images [B, cells, 3, H, W], indices [B], modes [B]), see `SuiteImages.__getitems__`.

    Args:
        images: The suite's images.
        indices: Which of them.
        batch_size: Images a batch, where they are not corrupted.
        workers: Processes that decode and corrupt.
    """
    return DataLoader(
        Subset(images, list(map(int, indices))),
        images.at_a_time if images.image_set.suite.corrupted else batch_size,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        collate_fn=_as_it_is,
        worker_init_fn=_begin_worker,
    )


def _as_it_is(batch):
    return batch


def _begin_worker(worker: int) -> None:
    cv2.setNumThreads(0)
    keep_freed_memory(loads=True)
