"""timm's readers of image sets, those that find an image by its index."""

import hashlib
import os

from timm.data import create_dataset
from timm.data.readers.reader import Reader
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

from distill.base.images import check_class_folders, find_split
from distill.data.shards import ShardReader


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
