"""Images through timm's readers and transforms, with every view fixed by (seed, image, view)."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS, DATASETS
from PIL import Image
from timm.data import create_dataset, create_transform
from torch.utils.data import Dataset


@DATA_SAMPLERS.register_module()
class ViewSampler(DefaultSampler):
    """mmengine's sampler that says beside each index which view of the image is meant: one view an epoch."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((index, self.epoch) for index in super().__iter__())


@DATASETS.register_module()
class Views(Dataset):
    """Augmented views of an image set.

    What is random about a view follows from (seed, image, view) alone: it does not depend on the worker, the batch
    or what was drawn before, so that a resumed run sees what an uninterrupted one would have seen.

    Args:
        root: Folder of the set.
        split: Its part, as timm finds it (``train``, ``val``, ``validation``, …), or none with ``''``.
        name: timm's reader: ``''`` for folders and tar files, ``hfds/…`` for Hugging Face data sets.
        transform: Arguments of timm's `create_transform`.
        seed: Seed of the views.

    Raises:
        FileNotFoundError: The folder is not there.
        ValueError: A class has no image.
    """

    def __init__(self, root: str, split: str = '', name: str = '', transform: dict | None = None, seed: int = 0):
        if not name:
            check_class_folders(find_split(root, split))
        self.reader = create_dataset(name=name, root=root, split=split).reader
        self.classes = sorted(self.reader.class_to_idx, key=self.reader.class_to_idx.get)
        self.transform = create_transform(**{'use_prefetcher': True, **(transform or {})})
        self.seed = seed

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, int]:
        """One view.

        Args:
            key: The image's index, or (index, view); an index alone means view 0.

        Returns:
            The view in uint8 [3, H, W], and the label.

        Raises:
            ValueError: The image cannot be decoded.
        """
        index, view = key if isinstance(key, tuple) else (key, 0)
        file, label = self.reader[index][:2]
        seed_everything(self.seed, view, index)
        return self.transform(decode(file, lambda: self.reader.filename(index, absolute=True))), label


def seed_everything(*numbers: int) -> None:
    """Seed Python, numpy and torch's CPU generator from a tuple of non-negative numbers."""
    low, high = np.random.SeedSequence(numbers).generate_state(2)
    random.seed(int(low))
    np.random.seed(int(low))
    torch.default_generator.manual_seed(int(high) << 32 | int(low))


def decode(file, name) -> Image.Image:
    """Decode an image file to RGB.

    Args:
        file: Open file.
        name: Called for the file's name if it cannot be decoded.

    Raises:
        ValueError: The file is truncated, damaged or no image.
    """
    try:
        with file:
            return Image.open(file).convert('RGB')
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"image '{name()}' cannot be decoded ({error}); replace or delete it") from None


def find_split(root: str, split: str) -> Path:
    """The folder of a split, under the names that timm also tries.

    Raises:
        FileNotFoundError: There is none.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f"data root '{root}' does not exist; make or unpack the data, or pass --data-root")
    synonyms = {'val': ['val', 'validation', 'test'], 'validation': ['validation', 'val', 'test']}
    for folder in synonyms.get(split, [split]):
        if (Path(root) / folder).is_dir():
            return Path(root) / folder
    found = ', '.join(sorted(p.name for p in Path(root).iterdir() if p.is_dir())[:8]) or 'no folder'
    raise FileNotFoundError(f"data root '{root}' has no folder '{split}'; found {found}")


def check_class_folders(folder: Path) -> list[str]:
    """The class folders of an image set, each of which must have an image.

    timm's reader leaves out empty folders, which would renumber the classes after them.

    Raises:
        ValueError: There is no class folder, or one is empty.
    """
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith('.'))
    if not classes:
        raise ValueError(f"'{folder}' has no class folders; expected {folder}/<class>/<image>")
    empty = [p.name for p in classes if not any(f.is_file() for f in p.rglob('*'))]
    if empty:
        raise ValueError(f"class folder '{folder / empty[0]}' has no image ({len(empty)} such); fill or delete it")
    return [p.name for p in classes]
