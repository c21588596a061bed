"""A folder of images, as several models take them."""

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from timm.data import ImageNetInfo, create_transform
from torch import Tensor
from torch.utils.data import Dataset

from distill.base import folders
from distill.base.images import decode, normalise
from distill.explain.cka import MIN_IMAGES
from distill.explain.stages import spread
from distill.robustness.runs import Run

_logger = logging.getLogger(__name__)


class ModelInputs(Dataset):
    """Each image at the size and crop of each of several models, not yet normalised.

    Args:
        paths: Image files.
        runs: The models.
    """

    def __init__(self, paths: Sequence[Path], runs: Sequence[Run]):
        self.paths = paths
        self.transforms = [create_transform(**run.transform, use_prefetcher=True) for run in runs]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[Tensor]:
        """The image for each model, uint8 [3, H, W]."""
        image = decode(self.paths[index].open('rb'), lambda: self.paths[index])
        return [torch.as_tensor(transform(image)) for transform in self.transforms]


def find_images(folder: Path, count: int) -> list[Path]:
    """Find image files anywhere below a folder, at most ``count`` of them, evenly spread.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: The folder holds too few images for CKA, or ``count`` is too small.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"image folder '{folder}' does not exist; give a folder with images")
    left_out = folders.LeftOut()
    found = sorted(folder / path for path in folders.find_images(folder, left_out))
    if left_out:
        _logger.warning(folders.left_out_line(folder, left_out))
    if min(len(found), count) < MIN_IMAGES:
        raise ValueError(f"'{folder}' has {len(found)} images and {count} were asked for; give {MIN_IMAGES} or more")
    return [found[index] for index in spread(len(found), count)]


def to_input(run: Run, images: Tensor) -> Tensor:
    """Normalise uint8 images [B, 3, H, W] for a model, on its device."""
    device = next((parameter.device for parameter in run.network.parameters()), 'cpu')
    return normalise(images.to(device), run.mean, run.std)


def class_name(run: Run, index: int) -> str:
    """The name of a class for people: that of the checkpoint, or of ImageNet."""
    info = _imagenet()
    if run.classes is None and run.network.num_classes != info.num_classes():
        return f'class {index}'
    name = run.classes[index] if run.classes is not None else info.index_to_label_name(index)
    known = name in info.label_names()
    return info.label_name_to_description(name, detailed=False).partition(',')[0] if known else name


@cache
def _imagenet() -> ImageNetInfo:
    return ImageNetInfo()
