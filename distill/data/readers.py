"""Readers of image sets: the readers that find an image by its index."""

import hashlib
import os
from collections.abc import Iterable
from typing import IO, Any, Protocol

from timm.data import create_dataset

from distill.base.folders import ClassFolders, find_split, natural_key
from distill.base.image_lists import is_list
from distill.data.shards import ShardReader
from distill.data.tars import TarReader
from distill.data.unlabelled import FileReader, FolderImages, HubImages, JoinedReader, ListImages


class ImageReader(Protocol):
    """What is used of timm's readers, whose base class says less."""

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: int) -> tuple[IO[bytes], int]:
        """The open file of an image, and its label."""

    def filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        """Name of an image: in the set, without folders, or with the set's folder."""


class FolderReader(FileReader):
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
        found = ClassFolders.read(root)
        samples = [(path, label) for label, paths in enumerate(found.images.values()) for path in paths]
        samples.sort(key=lambda sample: natural_key(sample[0]))
        super().__init__(root, [(f'{root}/{path}', label) for path, label in samples], found.note())
        self.class_to_idx = {name: label for label, name in enumerate(found.classes)}


def open_reader(root: str, split: str, name: str, labels: bool = True) -> ImageReader:
    """Open the reader of an image set.

    Args:
        root: Folder of the set, a tar file, or a list of images.
        split: Part of the set: a folder, tar file or list of images in the root, or ``''``.
        name: timm's name of the kind of data, see `distill.data.views.Views`.
        labels: Whether images have labels; otherwise each has the label −1.

    Raises:
        FileNotFoundError: The data is not there.
        ValueError: The reader gives images as a stream, is not installed, or a class has no image; or there are no
            labels where there should be some.
    """
    if name.lower().startswith('hfds/'):
        return _open_hub(root, split, name, labels)
    if name.lower().startswith('wds'):
        return ShardReader(root, split, labels)
    if name:
        raise ValueError(
            f"reader '{name}' gives images as a stream, in which no view is found again by its number; choose '' "
            '(folders, tar files, lists), hfds/<name> or wds/, or without labels dataset.type=StreamViews'
        )
    listed = os.path.join(root, split) if split else root
    if is_list(listed) and not os.path.isdir(listed):
        if labels:
            raise ValueError(f"list '{listed}' has no labels; set dataset.labels=False, or name a folder of classes")
        return ListImages(listed, root if split else os.path.dirname(listed) or '.')
    if is_list(root) and os.path.isfile(root):
        raise ValueError(
            f"list '{root}' has no part '{split}' and no labels; set dataset.split='' and dataset.labels=False"
        )
    path = find_split(root, split)
    if path.is_file():
        return TarReader(str(path), labels)
    return FolderReader(str(path)) if labels else FolderImages(str(path))


def _open_hub(root: str, split: str, name: str, labels: bool) -> ImageReader:
    try:
        if not labels:
            return HubImages(name.partition('/')[2], root, split)
        reader = create_dataset(name=name, root=root, split=split).reader
    except ImportError:
        raise ValueError(f"reader '{name}' needs the package datasets; get it by `pip install datasets`") from None
    columns = list(reader.dataset.features)
    if reader.label_key not in columns:
        raise ValueError(
            f"data set '{name}' has no column '{reader.label_key}' but {', '.join(columns)}; set dataset.labels=False "
            'to train without labels'
        )
    return reader


def class_names(reader: Any) -> list[str]:
    """Names of the classes of a reader, in the order of their labels; numbers where a reader knows no names."""
    return sorted(reader.class_to_idx, key=reader.class_to_idx.get)


def list_sha256(reader: Any) -> str:
    """Hash of the list of images: their names in the set, their sizes in bytes and their labels.

    Args:
        reader: What `open_reader` returns.
    """
    images: Iterable[tuple]
    if isinstance(reader, JoinedReader):
        images = [(list_sha256(part),) for part in reader.parts]
    elif isinstance(reader, TarReader):
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
