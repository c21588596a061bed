"""timm's readers of image sets: the readers that find an image by its index."""

import hashlib
import os
from collections.abc import Iterable
from typing import IO, Any, Protocol

from timm.data import create_dataset
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

from distill.base.images import check_class_folders, find_split
from distill.data.shards import ShardReader


class ImageReader(Protocol):
    """What is used of timm's readers, whose base class says less."""

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: int) -> tuple[IO[bytes], int]:
        """The open file of an image, and its label."""

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """Name of an image: in the set, without folders, or with the set's folder."""


def open_reader(root: str, split: str, name: str) -> ImageReader:
    """Open timm's reader of an image set.

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
    if path.is_file():
        # The workers of a loader would share an open file, and with it the place in the file that each reads from.
        return create_dataset('', root=str(path), split='', cache_tarfiles=False).reader
    check_class_folders(path)
    return create_dataset('', root=str(path), split='', search_split=False).reader


def class_names(reader: Any) -> list[str]:
    """Names of the classes of a reader, in the order of their labels."""
    labels = reader.class_name_to_idx if isinstance(reader, ReaderImageInTar) else reader.class_to_idx
    return sorted(labels, key=labels.get)


def list_sha256(reader: Any) -> str:
    """Hash of the list of images: their names in the set, their sizes in bytes and their labels.

    Args:
        reader: What `open_reader` returns.
    """
    images: Iterable[tuple]
    if isinstance(reader, ReaderImageInTar):
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
