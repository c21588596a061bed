"""The images on which artefacts are verified."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from timm.data import create_transform
from torch import nn

from distill.base import folders
from distill.base.images import normalise, read_image

COUNT = 16
"""Images at the most, unless another number is asked for."""


@dataclass(frozen=True)
class Sample:
    """Images of one size.

    Attributes:
        images: uint8 [B, 3, H, W].
        origin: ``real:`` and the folder's name, or ``synthetic``, for the manifest.
    """

    images: np.ndarray
    origin: str

    def __len__(self) -> int:
        return len(self.images)


def sample(folder: Path | None, count: int, size: tuple[int, int], transform: Mapping) -> Sample:
    """Images to verify with: real ones, evenly chosen from a folder, or synthetic ones where there is none.

    Args:
        folder: Holds images, in any folders below it; None for synthetic images.
        count: Number of images, at the most.
        size: Height and width in pixels.
        transform: Arguments of timm's evaluation transform.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no images.
    """
    if folder is None:
        return Sample(synthetic(count, size), 'synthetic')
    if not folder.is_dir():
        raise FileNotFoundError(f"image folder '{folder}' does not exist; give a folder with images")
    found = sorted(folders.find_images(folder, folders.LeftOut()))
    if not found:
        raise ValueError(f"'{folder}' holds no images; give a folder with images, or leave it out for synthetic ones")
    count = min(count, len(found))
    paths = [folder / found[index * len(found) // count] for index in range(count)]
    show = create_transform(**{**transform, 'input_size': size}, use_prefetcher=True)
    return Sample(
        np.stack([np.asarray(show(read_image(path)[0])) for path in paths]), f'real: {folder.absolute().name}'
    )


def synthetic(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Coloured clouds with noise on them, uint8 [B, 3, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    clouds = nn.functional.interpolate(torch.rand(count, 3, 5, 5, generator=generator), size, mode='bicubic')
    noise = torch.randn(count, 3, *size, generator=generator) * 0.05
    return ((clouds + noise).clamp(0, 1) * 255).to(torch.uint8).numpy()


def as_input(images: np.ndarray, dtype: str, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Images as an artefact takes them: as they are, or normalised."""
    return images if dtype == 'uint8' else normalise(torch.from_numpy(images), mean, std).numpy()
