"""Views of images that come as a stream of unknown length, each found again by its place in the stream."""

import collections
import io
import itertools
import logging
from collections.abc import Iterator
from functools import partial

import torch
from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS, DATASETS
from PIL import Image
from torch.utils.data import Dataset, Sampler

from distill.base.images import check_header, decode
from distill.base.seeding import seed_everything
from distill.data.plan import permutation
from distill.data.shards import NO_LABEL
from distill.data.streams import Encoded, open_stream
from distill.data.transforms import view_transform

ENDLESS = 2**62
"""Length of what has no end: mmengine asks whether a step is the last of an epoch."""
HEADERS = 8
"""Images at the beginning of a stream that are looked at before training."""


@DATASETS.register_module()
class StreamViews(Dataset):
    """Augmented views of images that come as a stream: too many to be listed, or out of a pipe.

    The stream is read block by block, and begins again where it ends. Within a block the images are shuffled by
    (seed, pass, block), so that which image is shown at which place, and what is random about its view, follows from
    the seed and the place alone: neither from the processes that read nor from where a resumed run begins. Each process
    reads the whole stream, and decodes what it shows. Of an odd number of images the last is left out. Train by
    iterations, with a `StreamSampler`.

    Differs from `Views`: repeated augmentation shows a block several times before the next one, so that it is read
    once; there is no cache of a teacher's predictions; and shuffling reaches no further than a block: sort the stream
    at random if its neighbours are alike.

    Args:
        root: Folder of tar files, a tar file, ``pipe:COMMAND`` for a command that writes a tar file to its output, or
            for a Hugging Face data set the folder of downloads.
        split: Part of the tar files' names (``train``), a pattern that ends with ``.tar``, or part of the data set.
        name: ``hfds/<name>`` for a Hugging Face data set, which is streamed; else ``''`` or ``wds/``.
        transform: Arguments of timm's `create_transform`, see `distill.data.transforms.view_transform`.
        seed: Seed of the views and of their order.
        block: Images of a block, an even number. Each process holds the files of one in memory.
        shuffle: Shuffle the images of a block.
        on_broken: What to do with an image that cannot be decoded: ``raise``, or ``skip``, which logs it and takes
            another of the block in its place.
        max_broken: How many different images each process of the run may skip.
        labels: Not for streams.
        repeats: Repeated augmentation: views of an image in a pass, each in an order of its own.

    Attributes:
        where: The stream, for messages.
        labelled: Whether images have labels, which they have not.

    Raises:
        FileNotFoundError: The data is not there.
        ValueError: The stream has no image, one at its beginning is none, or an argument is none of its choices.
    """

    labelled = False
    named = False
    in_memory = False
    classes: tuple[str, ...] = ()
    metainfo: dict = {}

    def __init__(
        self,
        root: str = '',
        split: str = '',
        name: str = '',
        transform: dict | None = None,
        seed: int = 0,
        block: int = 1024,
        shuffle: bool = True,
        on_broken: str = 'raise',
        max_broken: int = 100,
        labels: bool = False,
        repeats: int = 1,
    ):
        if on_broken not in ('raise', 'skip'):
            raise ValueError(f"on_broken is '{on_broken}'; choose from raise, skip")
        if labels:
            raise ValueError('a stream is read without labels; set dataset.labels=False, or dataset.type=Views')
        if block < 2 or block % 2:
            raise ValueError(f'block is {block}; give an even number of images, 2 or more')
        if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
            raise ValueError(f'repeats is {repeats!r}; give a whole number of 1 or more')
        self.repeats = repeats
        self.stream = open_stream(root, split, name)
        self.where = self.stream.where
        self.transform_config = dict(transform or {})
        self.transform = view_transform(self.transform_config)
        self.seed, self.block, self.shuffle = seed, block, shuffle
        self.skips, self.max_broken = on_broken == 'skip', max_broken
        # Loader workers are processes of their own and count together.
        self.broken = torch.zeros(1, dtype=torch.int64).share_memory_()
        self.length: int | None = None
        self._reading: Iterator[Encoded] | None = None
        self._held: tuple[int, list[Encoded]] = (-1, [])
        self._told: set[int] = set()
        self._look()

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int, int, int, int]:
        """The view at a place of the endless stream.

        Args:
            place: A number from 0, counted on where the stream begins again.

        Returns:
            The view in uint8 [3, H, W], the label −1, the image's place in the stream, the number of the view, and a
            seed for what is random about the view in the batch. Each pass has ``repeats`` views of an image.

        Raises:
            ValueError: An image cannot be decoded, or too many could not; or the stream cannot be read.
        """
        number, block, inside, files = self._find(place)
        # A block is shown as often as its images are repeated, each time in another order.
        repeat, inside = divmod(inside, len(files))
        view = number * self.repeats + repeat
        order = range(len(files))
        if self.shuffle:
            order = permutation(len(files), self.seed, view, block).tolist()
        image, index = self._read(files, order, inside, block * self.block)
        seed = seed_everything(self.seed, view, index)
        return self.transform(image), NO_LABEL, index, view, seed

    def _find(self, place: int) -> tuple[int, int, int, list[Encoded]]:
        """The pass and the block that a place lies in, the place in that block, and the block's files."""
        while True:
            number, inside = divmod(place, self.length * self.repeats) if self.length else (0, place)
            block, rest = divmod(inside, self.block * self.repeats)
            files = self._load(block)
            if self.length is None or inside < self.length * self.repeats:
                return number, block, rest, files

    def _load(self, number: int) -> list[Encoded]:
        """The files of a block, read on from the block that was read last or, for an earlier one, from the beginning.

        Sets `length` where the stream ends.
        """
        held, files = self._held
        if number == held:
            return files
        if self._reading is None or number < held:
            self._close()
            self._reading = self.stream.images(number * self.block)
        else:  # Blocks between the two are those that other processes show.
            collections.deque(itertools.islice(self._reading, (number - held - 1) * self.block), maxlen=0)
        files = list(itertools.islice(self._reading, self.block))
        if len(files) < self.block:
            self._close()
            found = self.stream.length or 0
            self.length = found // 2 * 2
            if not self.length:
                raise ValueError(f"'{self.where}' has {found or 'no'} image; give a stream of two or more")
        files = files[: len(files) // 2 * 2]
        self._held = (number, files)
        return files

    def _close(self) -> None:
        if self._reading is not None:
            self._reading.close()  # type: ignore[attr-defined]
        self._reading = None

    def _read(self, files: list[Encoded], order, place: int, start: int) -> tuple[Image.Image, int]:
        """Decode the image at a place of a block, or the next one that can be; returns its place in the stream too."""
        for offset in range(len(files)):
            index = order[(place + offset) % len(files)]
            name, content = files[index]
            try:
                return decode(io.BytesIO(content), partial(str, name)), start + index
            except ValueError as error:
                if not self.skips:
                    raise
                self._count(start + index, error)
        raise ValueError(f"no image of a block of '{self.where}' can be read; see the log for their names")

    def _count(self, index: int, error: Exception) -> None:
        if index in self._told:
            return
        self._told.add(index)
        self.broken += 1
        count = int(self.broken)
        if count > self.max_broken:
            raise ValueError(f'{error}; more than max_broken={self.max_broken} images are broken')
        print_log(f'skipped ({count} of at most {self.max_broken}): {error}', 'current', logging.WARNING)

    def _look(self) -> None:
        """Look at the first images, so that a stream that gives none stops the run before it starts.

        Raises:
            ValueError: There is none, or one cannot be decoded and none may be skipped.
        """
        reading = self.stream.images(0)
        count = 0
        for count, (name, content) in zip(range(1, HEADERS + 1), reading, strict=False):  # noqa: B007
            try:
                check_header(io.BytesIO(content), partial(str, name), partial(print_log, logger='current'))
            except ValueError:
                if not self.skips:
                    raise
        reading.close()  # type: ignore[attr-defined]
        if count < 2:
            raise ValueError(f"'{self.where}' has {count or 'no'} image; give a stream of two or more")


@DATA_SAMPLERS.register_module()
class StreamSampler(Sampler):
    """Deal the places of a stream to the processes of a run in pairs, without an end.

    Of n processes each gets every n-th pair, so that together they see what one process with n times the batch sees.

    Args:
        dataset: A `StreamViews`.
        seed: The run's seed, which changes nothing: the order is that of the data set.

    Attributes:
        start: Places to leave out at the beginning, over all processes, since a resumed run has seen them.
    """

    def __init__(self, dataset: StreamViews, seed: int | None = None):
        if not isinstance(dataset, StreamViews):
            raise ValueError(f'a StreamSampler deals StreamViews and not {type(dataset).__name__}; use a ViewSampler')
        self.start = 0
        self.rank, self.world_size = get_dist_info()

    def __len__(self) -> int:
        return ENDLESS

    def __iter__(self) -> Iterator[int]:
        pair = self.start // 2 + self.rank
        while True:
            yield from (2 * pair, 2 * pair + 1)
            pair += self.world_size
