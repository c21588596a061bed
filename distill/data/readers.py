"""Readers of image sets: the readers that find an image by its index."""

import hashlib
import os
from collections.abc import Iterable
from typing import IO, Any, Protocol

from timm.data import create_dataset
from timm.data.readers.reader import Reader

from distill.base.folders import ClassFolders, find_split, natural_key
from distill.data.shards import ShardReader
from distill.data.tars import TarReader


class ImageReader(Protocol):
    """What is used of timm's readers, whose base class says less."""

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: int) -> tuple[IO[bytes], int]:
        """The open file of an image, and its label."""

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """Name of an image: in the set, without folders, or with the set's folder."""


class FolderReader(Reader):
    """A timm reader of class folders, as `distill.base.folders.ClassFolders` finds them.

    Differs from timm's ``ReaderImageFolder``: classes are folders directly in the root and not those that hold the
    images, files of all formats that Pillow decodes are images, and nothing hidden is.

    Args:
        root: The folder.

    Attributes:
        samples: Path and label of each image, in timm's order.
        class_to_idx: Label of each class.
        note: A line that counts what is left out, or None.

    Raises:
        ValueError: There is no class folder, or one has no image.
    """

    def __init__(self, root: str):
        super().__init__()
        self.root = root
        found = ClassFolders.read(root)
        self.class_to_idx = {name: label for label, name in enumerate(found.classes)}
        self.note = found.note()
        samples = [(path, label) for label, paths in enumerate(found.images.values()) for path in paths]
        samples.sort(key=lambda sample: natural_key(sample[0]))
        self.samples = [(f'{root}/{path}', label) for path, label in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[IO[bytes], int]:
        path, label = self.samples[index]
        return open(path, 'rb'), label

    def _filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        path = self.samples[index][0]
        if basename:
            return os.path.basename(path)
        return path if absolute else os.path.relpath(path, self.root)


def open_reader(root: str, split: str, name: str) -> ImageReader:
    """Open the reader of an image set.

    Args:
        root: Folder of the set, or a tar file.
        split: Part of the set: a folder or tar file in the root, or ``''``.
        name: timm's name of the kind of data, see `distill.data.views.Views`.

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
    return TarReader(str(path)) if path.is_file() else FolderReader(str(path))


def class_names(reader: Any) -> list[str]:
    """Names of the classes of a reader, in the order of their labels; numbers where a reader knows no names."""
    return sorted(reader.class_to_idx, key=reader.class_to_idx.get)


def list_sha256(reader: Any) -> str:
    """Hash of the list of images: their names in the set, their sizes in bytes and their labels.

    Args:
        reader: What `open_reader` returns.
    """
    images: Iterable[tuple]
    if isinstance(reader, TarReader):
        members = (sample[0] for sample in reader.samples)
        images = ((m.name, m.size, label) for m, label in zip(members, reader.targets, strict=True))
    elif isinstance(reader, ShardReader):
        images = zip(reader.filenames(), reader.sizes, reader.labels, strict=True)
    elif hasattr(reader, 'samples'):
        images = ((path.removeprefix(reader.root), os.path.getsize(path), label) for path, label in reader.samples)
    else:
        # Hugging Face's own hash of a data set and of all that was done to it.
        images = [(reader.dataset._fingerprint, len(reader))]
    digest = hashlib.sha256()
    for image in images:
        digest.update('\t'.join(map(str, image)).encode() + b'\n')
    return digest.hexdigest()
