"""Images through timm's readers and transforms, with every view fixed by (seed, image, view)."""

import hashlib
import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS, DATASETS
from PIL import Image
from timm.data import create_dataset, create_transform
from timm.data.readers.reader import Reader
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from torch.utils.data import Dataset

from distill.plan import ViewPlan, permutation
from distill.shards import ShardReader


@DATA_SAMPLERS.register_module()
class ViewSampler(DefaultSampler):
    """mmengine's sampler that says beside each index which view of the image is meant, and deals pairs.

    Views 2k and 2k + 1 of a batch are partners for mixing, so a batch should have an even size. Who is whose partner
    follows from the seed of the views (`Views.seed`), as all that is random about a view does; the run's seed orders
    the pairs. Processes get every n-th pair, so that n of them see together what one would with n times the batch.

    Args:
        dataset: A `Views`.
        shuffle: Draw pairs and their order.
        seed: The run's seed.
        repeats: Repeated augmentation: views of an image in an epoch, which different processes get (DeiT: 3). An
            epoch has as many views as without, see `ViewPlan`.

    Attributes:
        epochs: Epochs after which the views start again; None for never. A teacher's cache sets it.
        skip: How many of this process's views to leave out at the beginning of the epoch, since a resumed run has seen
            them.
    """

    def __init__(self, dataset: 'Views', shuffle: bool = True, seed: int | None = None, repeats: int = 1):
        super().__init__(dataset, shuffle=shuffle, seed=seed)
        self.plan = ViewPlan(len(dataset), repeats, shuffle, dataset.seed)
        self.epochs: int | None = None
        self.skip = 0

    def __len__(self) -> int:
        return 2 * -(-self.plan.pairs // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        groups = self.plan.epoch_pairs(self.epoch % self.epochs if self.epochs else self.epoch)
        if self.shuffle:
            groups = groups[permutation(len(groups), self.seed, self.epoch)]
        pairs = groups.reshape(-1, 2, 2)[: self.plan.pairs]
        # Like mmengine's, it starts again at the first to give each process the same number.
        pairs = np.resize(pairs, (len(self) // 2 * self.world_size, 2, 2))[self.rank :: self.world_size]
        keys = pairs.reshape(-1, 2)[self.skip :]
        return zip(keys[:, 0].tolist(), keys[:, 1].tolist(), strict=True)


@DATASETS.register_module()
class Views(Dataset):
    """Augmented views of an image set.

    What is random about a view follows from (seed, image, view) alone: it does not depend on the worker, the batch
    or what was drawn before, so that a resumed run sees what an uninterrupted one would have seen.

    Args:
        root: Folder of the set, or a tar file.
        split: Its part: a folder or tar file in the root (``train``, ``val``, ``validation``, …), or ``''``.
        name: timm's name of the kind of data: ``''`` for folders and tar files, ``hfds/…`` for Hugging Face data sets,
            ``wds/`` for WebDataset shards (see `ShardReader`).
        transform: Arguments of timm's `create_transform`.
        seed: Seed of the views. It is not the run's, so that several runs can share a teacher's cache.
        on_broken: What to do with an image that cannot be read: ``raise``, or ``skip``, which logs it and takes the
            next image in its place.
        max_broken: How many different images each process may skip.

    Raises:
        FileNotFoundError: The data is not there.
        ValueError: A class has no image, or an argument is none of its choices.
    """

    def __init__(
        self,
        root: str,
        split: str = '',
        name: str = '',
        transform: dict | None = None,
        seed: int = 0,
        on_broken: str = 'raise',
        max_broken: int = 100,
    ):
        if on_broken not in ('raise', 'skip'):
            raise ValueError(f"on_broken is '{on_broken}'; choose from raise, skip")
        self.reader = open_reader(root, split, name)
        index = self.reader.class_name_to_idx if isinstance(self.reader, ReaderImageInTar) else self.reader.class_to_idx
        self.classes = sorted(index, key=index.get)
        self.transform_config = dict(transform or {})
        self.transform = create_transform(**{'use_prefetcher': True, **self.transform_config})
        self.seed = seed
        self.max_broken = max_broken
        # Loader workers are processes of their own and count together.
        self.broken = torch.zeros(len(self.reader), dtype=torch.bool).share_memory_() if on_broken == 'skip' else None

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, int, int, int, int]:
        """One view.

        Args:
            key: The image's index, or (index, view); an index alone means view 0.

        Returns:
            The view in uint8 [3, H, W], the label, the index, the view, and a seed for what is random about the view
            in the batch (`ViewPreprocessor`).

        Raises:
            ValueError: The image cannot be decoded, or too many could not.
            OSError: The image cannot be read.
        """
        index, view = key if isinstance(key, tuple) else (key, 0)
        image, label = self._read(index)
        seed = seed_everything(self.seed, view, index)
        return self.transform(image), label, index, view, seed

    def _read(self, index: int) -> tuple[Image.Image, int]:
        for offset in range(len(self)):
            shown = (index + offset) % len(self)
            try:
                file, label = self.reader[shown][:2]
                return decode(file, lambda shown=shown: self.reader.filename(shown, absolute=True)), int(label)
            except (ValueError, OSError) as error:
                if self.broken is None:
                    raise
                self._count(shown, error)
        raise ValueError('no image of the set can be read; see the log for their names')

    def _count(self, index: int, error: Exception) -> None:
        """Note that an image is broken; in the log, the first time."""
        if self.broken[index]:
            return
        self.broken[index] = True
        count = int(self.broken.sum())
        if count > self.max_broken:
            raise ValueError(f'{error}; more than max_broken={self.max_broken} images are broken')
        print_log(f'skipped ({count} of at most {self.max_broken}): {error}', 'current', logging.WARNING)


def seed_everything(*numbers: int) -> int:
    """Seed Python, numpy and torch's CPU generator from a tuple of non-negative numbers.

    Returns:
        A further seed in [0, 2⁶³) that follows from the numbers.
    """
    words = np.random.SeedSequence(numbers).generate_state(4).tolist()
    random.seed(words[0])
    np.random.seed(words[0])
    torch.default_generator.manual_seed(words[1] << 32 | words[0])
    return (words[3] << 32 | words[2]) >> 1


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


def open_reader(root: str, split: str, name: str) -> Reader:
    """timm's reader of an image set, one that finds an image by its index.

    Raises:
        FileNotFoundError: The data is not there.
        ValueError: The reader gives images as a stream, is not installed, or a class has no image.
    """
    if name.lower().startswith('hfds/'):
        try:
            return create_dataset(name=name, root=root, split=split).reader
        except ImportError:
            raise ValueError(f"reader '{name}' needs the package datasets; get it by `pip install datasets`") from None
    if name.lower().startswith('wds'):
        return ShardReader(root, split)
    if name:
        raise ValueError(
            f"reader '{name}' gives images as a stream, in which no view is found again by its number; "
            "choose '' (folders, tar files), hfds/<name> or wds/"
        )
    path = find_split(root, split)
    if path.is_file():
        # A file kept open would be shared by the loader's workers, and with it the place that each reads from.
        return create_dataset('', root=str(path), split='', cache_tarfiles=False).reader
    check_class_folders(path)
    return create_dataset('', root=str(path), split='', search_split=False).reader


def list_sha256(reader: Reader) -> str:
    """Hash of the list of images: their names in the set, their sizes in bytes and their labels."""
    if isinstance(reader, ReaderImageInTar):
        members = (sample[0] for sample in reader.samples)
        images = ((m.name, m.size, label) for m, label in zip(members, reader.targets, strict=True))
    elif isinstance(reader, ShardReader):
        images = zip(reader.filenames(), reader.sizes, reader.labels, strict=True)
    elif hasattr(reader, 'samples'):
        images = ((path.removeprefix(reader.root), os.path.getsize(path), label) for path, label in reader.samples)
    else:
        # Hugging Face's own hash of a data set and of what was done to it.
        images = [(reader.dataset._fingerprint, len(reader))]
    digest = hashlib.sha256()
    for image in images:
        digest.update('\t'.join(map(str, image)).encode() + b'\n')
    return digest.hexdigest()


def find_split(root: str, split: str) -> Path:
    """The folder or tar file of a split, under the names that timm also tries.

    Raises:
        FileNotFoundError: There is none.
    """
    if Path(root).is_file() and Path(root).suffix == '.tar':
        return Path(root)
    if not Path(root).is_dir():
        raise FileNotFoundError(f"data root '{root}' does not exist; make or unpack the data, or pass --data-root")
    synonyms = {'val': ['val', 'validation', 'test'], 'validation': ['validation', 'val', 'test']}
    for name in synonyms.get(split, [split]):
        if (Path(root) / name).is_dir():
            return Path(root) / name
        if (Path(root) / f'{name}.tar').is_file():
            return Path(root) / f'{name}.tar'
    found = ', '.join(sorted(p.name for p in Path(root).iterdir() if p.is_dir())[:8]) or 'no folder'
    raise FileNotFoundError(f"data root '{root}' has no folder '{split}' nor '{split}.tar'; found {found}")


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
