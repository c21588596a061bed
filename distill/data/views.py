"""Read and transform images by timm, with every view fixed by (seed, image, view)."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from PIL import Image
from torch.utils.data import Dataset

from distill.base.classes import match_classes
from distill.base.images import check_header, decode
from distill.base.seeding import seed_everything
from distill.corruptions.training import build_corruption
from distill.data.readers import class_names
from distill.data.shards import ShardReader
from distill.data.sources import open_sources
from distill.data.transforms import view_transform

HEADERS = 500
"""Images whose headers are looked at before training, spread evenly: less than a second, on a disk of its own."""


VIEW_PX = 224
"""Side of a view where a transform gives none: timm's default."""


@DATASETS.register_module()
class Views(Dataset):
    """Augmented views of an image set.

    What is random about a view follows from (seed, image, view) alone: it does not depend on the worker, the batch or
    the views before it. So a resumed run sees the views that an uninterrupted run would have seen.

    Images without labels lie anywhere below the root, or a list names them (`distill.base.image_lists`). Several such
    sets are one set with ``sources``; with weights each has its share of every epoch, see
    `distill.data.plan.WeightedPlan`.

    Args:
        root: Folder of the set, or a tar file; without labels also a list of images, whose paths are relative to its
            folder.
        split: Part of the set: a folder or tar file in the root (``train``, ``val``, ``validation``, …), or ``''``;
            without labels also a list of images in the root, whose paths are relative to the root.
        name: timm's name of the kind of data: ``''`` for folders, tar files and lists, ``hfds/…`` for Hugging Face data
            sets, ``wds/`` for WebDataset shards (see `ShardReader`).
        transform: Arguments of timm's `create_transform`, see `distill.data.transforms.view_transform`.
        seed: Seed of the views. The run has a seed of its own, so that several runs can share a teacher's cache.
        on_broken: What to do with an image that cannot be read: ``raise``, or ``skip``, which logs it and takes the
            next image in its place.
        max_broken: How many different images each process of the run may skip.
        corrupt: Arguments of `distill.corruptions.training.TrainingCorruption`: with each view come corrupted copies of
            it, which the student sees in place of the view that the teacher sees. None for no copies.
        labels: Whether images have labels. Otherwise the label of each is −1, and there are no classes.
        sources: Several sets without labels in place of one: for each ``dict(root=…)`` with any of ``split``, ``name``
            and ``weight``. Weights are given for all or for none.

    Attributes:
        reader: timm's reader of the images.
        where: The folder or file of the images, or the name of the data, for messages.
        classes: Names of the classes, in the order of their labels.
        named: Whether the classes have names; otherwise they are called by their numbers, and can only be counted.
        transform_config: Arguments of timm's `create_transform`, as they were given.
        corruption: What makes the corrupted copies, or None.
        labelled: Whether images have labels.
        sources: Number of images and weight of each of several sets; None without weights.
        in_memory: Whether images are held in memory and augmented a batch at a time, which gives other views.
        broken: Whether each image was found broken [images]; None if such an image raises.

    Raises:
        FileNotFoundError: The data is not there.
        ValueError: A class has no image, an image that is looked at is none, or an argument is none of its choices.
    """

    in_memory = False

    def __init__(
        self,
        root: str = '',
        split: str = '',
        name: str = '',
        transform: dict | None = None,
        seed: int = 0,
        on_broken: str = 'raise',
        max_broken: int = 100,
        corrupt: dict | None = None,
        labels: bool = True,
        sources: Sequence[Mapping] | None = None,
    ):
        self.corruption = build_corruption(corrupt, 'dataset.corrupt')
        if self.corruption is not None:
            size = (transform or {}).get('input_size', VIEW_PX)
            self.corruption.check_side(size if isinstance(size, int) else min(size[-2:]))
        if on_broken not in ('raise', 'skip'):
            raise ValueError(f"on_broken is '{on_broken}'; choose from raise, skip")
        self.labelled = labels
        self.reader, self.sources = open_sources(root, split, name, labels, sources)
        self.where = str(getattr(self.reader, 'root', None) or name)
        self.classes = class_names(self.reader)
        self.named = bool(self.classes) and not isinstance(self.reader, ShardReader)
        self._labels: list[int] | None = None
        self.transform_config = dict(transform or {})
        self.transform = view_transform(self.transform_config)
        self.seed = seed
        self.max_broken = max_broken
        # Loader workers are processes of their own and count together.
        self.broken: torch.Tensor | None = None
        if on_broken == 'skip':
            self.broken = torch.zeros(len(self.reader), dtype=torch.bool).share_memory_()
        if note := getattr(self.reader, 'note', None):
            print_log(note, 'current', logging.WARNING)
        self._look()

    @property
    def metainfo(self) -> dict:
        """The names of the classes as OpenMMLab's data sets tell them; mmengine writes them into checkpoints."""
        return {'classes': list(self.classes)} if self.named else {}

    def order_classes(self, classes: Sequence[str], named_by: str) -> None:
        """Label the images by a list of the same classes, whose order may be another.

        Args:
            classes: Names of the classes.
            named_by: Where these come from, for the error.

        Raises:
            ValueError: The classes are others.
        """
        own = class_names(self.reader)
        places = match_classes(own, classes, f"the set '{self.where}'", named_by)
        self._labels = None if places == list(range(len(own))) else places
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple:
        """One view.

        Args:
            key: The image's index, or (index, view); an index alone means view 0.

        Returns:
            The view in uint8 [3, H, W], the label, the index, the view, and a seed for what is random about the view
            in the batch (`ViewPreprocessor`); with ``corrupt`` also its corrupted copies, uint8 [copies, 3, H, W].

        Raises:
            ValueError: The image cannot be decoded, or too many could not.
            OSError: The image cannot be read.
        """
        index, view = key if isinstance(key, tuple) else (key, 0)
        image, label = self._read(index)
        seed = seed_everything(self.seed, view, index)
        return self._with_copies((self.transform(image), self._ordered(label), index, view, seed))

    def _with_copies(self, item: tuple) -> tuple:
        """A view and what belongs to it, with its corrupted copies if there are any.

        They are made of the view as it is shown: cropped, flipped and coloured, in uint8. So both have one geometry.
        """
        if self.corruption is None:
            return item
        shown, _, index, view, _ = item
        pixels = np.ascontiguousarray(np.moveaxis(np.asarray(shown), 0, -1))
        copies = self.corruption.copies_of(pixels, (self.seed, view, index))
        return *item, torch.from_numpy(copies.transpose(0, 3, 1, 2).copy())

    def _ordered(self, label: int) -> int:
        """The label that a class has in the run, of its label in the reader."""
        return label if self._labels is None else self._labels[label]

    def _read(self, index: int) -> tuple[Image.Image, int]:
        """An image, or the next one that can be read, and its label in the reader."""
        for offset in range(len(self)):
            shown = (index + offset) % len(self)
            try:
                file, label = self.reader[shown][:2]
                image = decode(file, partial(self.reader.filename, shown, absolute=True))
                return image, int(label)
            except (ValueError, OSError) as error:
                if self.broken is None:
                    raise
                self._count(self.broken, shown, error)
        raise ValueError('no image of the set can be read; see the log for their names')

    def _look(self) -> None:
        """Look at some headers: what is no image is better known now.

        Raises:
            ValueError: An image cannot be decoded, and none may be skipped.
        """
        log = partial(print_log, logger='current', level=logging.WARNING)
        for index in np.linspace(0, len(self) - 1, min(HEADERS, len(self))).astype(int).tolist():
            try:
                name = partial(self.reader.filename, index, absolute=True)
                check_header(self.reader[index][0], name, log)
            except (ValueError, OSError):
                if self.broken is None:
                    raise

    def _count(self, broken: torch.Tensor, index: int, error: Exception) -> None:
        """Mark an image as broken, and log it the first time."""
        if broken[index]:
            return
        broken[index] = True
        count = int(broken.sum())
        if count > self.max_broken:
            raise ValueError(f'{error}; more than max_broken={self.max_broken} images are broken')
        print_log(f'skipped ({count} of at most {self.max_broken}): {error}', 'current', logging.WARNING)
