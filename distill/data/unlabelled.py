"""Readers of images without labels: folders, lists and Hugging Face data sets, and several sets as one.

Tar files and WebDataset shards without labels are read by `distill.data.tars` and `distill.data.shards`.
"""

import io
import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np
from timm.data.readers.reader import Reader

from distill.base.folders import LeftOut, find_images, left_out_line, natural_key
from distill.base.image_lists import read_list
from distill.data.shards import NO_LABEL


class FileReader(Reader):
    """A timm reader of image files.

    Args:
        root: The folder that names are relative to.
        samples: Path and label of each image.
        note: A line that counts what is left out, or None.

    Attributes:
        root: The folder.
        samples: Path and label of each image.
        class_to_idx: Label of each class; of images without labels there is none.
        note: A line that counts what is left out, or None.
    """

    def __init__(self, root: str, samples: Sequence[tuple[str, int]], note: str | None = None):
        super().__init__()
        self.root, self.samples, self.note = root, samples, note
        self.class_to_idx: dict[str, int] = {}

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


class FolderImages(FileReader):
    """All images in a folder and in the visible folders below it, in natural order, without labels.

    Args:
        root: The folder.

    Raises:
        ValueError: There is no image.
    """

    def __init__(self, root: str):
        left_out = LeftOut()
        paths = sorted(find_images(root, left_out), key=natural_key)
        if not paths:
            raise ValueError(f"'{root}' has no image, nor have the folders below it{_found_instead(root, left_out)}")
        samples = [(f'{root}/{path}', NO_LABEL) for path in paths]
        super().__init__(root, samples, left_out_line(root, left_out))


def _found_instead(root: str, left_out: LeftOut) -> str:
    """The rest of the error about a folder without images: what it has, and the way out."""
    if any(Path(root).glob('*.tar')):
        return '; of its tar files, name one as root, or read all as shards by dataset.name=wds/'
    found = f': it has {left_out}' if left_out else ''
    return f'{found}; name a folder of images, which end in .jpg, .png, .webp, …'


class ListImages(FileReader):
    """The images of a list, in its order, without labels; see `distill.base.image_lists.read_list`.

    Args:
        path: The list.
        root: The folder that its paths are relative to.

    Raises:
        FileNotFoundError: The list does not exist, or images of it.
        ValueError: The list cannot be read, or names no image.
    """

    def __init__(self, path: str, root: str):
        super().__init__(root, [(os.path.join(root, name), NO_LABEL) for name in read_list(path, root)])


class HubImages(Reader):
    """The images of a Hugging Face data set, without labels.

    Args:
        name: The data set: a name on the hub, or a folder.
        root: Folder that downloads are kept in; ``''`` for that of the package.
        split: Part of the data set; ``''`` means ``train``.

    Attributes:
        column: The column of images: ``image``, or the only one with images.

    Raises:
        FileNotFoundError: There is no such data set.
        ImportError: The package datasets is not installed.
        ValueError: There is no such part, no column of images, or more than one and none called ``image``.
    """

    def __init__(self, name: str, root: str, split: str):
        super().__init__()
        import datasets

        self.class_to_idx: dict[str, int] = {}
        self.note = None
        self.name = name
        self.dataset = load_hub(name, root, split)
        self.column = image_column(name, self.dataset.features)
        # Decoded here, where an image that is broken is counted.
        self.dataset = self.dataset.select_columns(self.column).cast_column(self.column, datasets.Image(decode=False))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[IO[bytes], int]:
        return open_cell(self.dataset[index][self.column]), NO_LABEL

    def _filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        name = (self.dataset[index][self.column] or {}).get('path') or f'{self.name}, row {index}'
        return os.path.basename(name) if basename else name


def load_hub(name: str, root: str, split: str, **options) -> Any:
    """Load a Hugging Face data set.

    Args:
        name: The data set: a name on the hub, or a folder.
        root: Folder that downloads are kept in; ``''`` for that of the package.
        split: Part of the data set; ``''`` means ``train``.
        **options: Further arguments of ``datasets.load_dataset``.

    Raises:
        FileNotFoundError: There is no such data set.
        ImportError: The package datasets is not installed.
        ValueError: There is no such part.
    """
    import datasets

    try:
        return datasets.load_dataset(name, split=split or 'train', cache_dir=root or None, **options)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Hugging Face data set '{name}' is not there ({_short(error)}); correct it") from None
    except (ValueError, ConnectionError) as error:
        raise ValueError(f"Hugging Face data set '{name}' cannot be read ({_short(error)}); correct it") from None


def image_column(name: str, features: Any) -> str:
    """The column of images of a Hugging Face data set.

    Raises:
        ValueError: There is none, or more than one and none called ``image``.
    """
    import datasets

    columns = [column for column, kind in (features or {}).items() if isinstance(kind, datasets.Image)]
    if 'image' in columns or len(columns) == 1:
        return 'image' if 'image' in columns else columns[0]
    found = f'several columns of images ({", ".join(columns)})' if columns else 'no column of images'
    raise ValueError(
        f"Hugging Face data set '{name}' has {found}, of {', '.join(features or ()) or 'none that is known'}; name the "
        'one to train on image'
    )


def open_cell(cell: Any) -> IO[bytes]:
    """Open an image of a Hugging Face data set.

    Raises:
        ValueError: The cell holds none.
        OSError: Its file cannot be read.
    """
    if cell and cell.get('bytes'):
        return io.BytesIO(cell['bytes'])
    if cell and cell.get('path'):
        return open(cell['path'], 'rb')
    raise ValueError('a row of the data set has no image; leave it out')


def _short(error: Exception) -> str:
    return ' '.join(str(error).split())[:200]


class JoinedReader(Reader):
    """Several sets as one: their images one after the other.

    Args:
        parts: Readers of the sets.

    Attributes:
        parts: Readers of the sets.
        root: The places of the sets, for messages.
        note: Lines of the sets that count what is left out, in one, or None.
    """

    def __init__(self, parts: Sequence[Any]):
        super().__init__()
        self.parts = list(parts)
        self.class_to_idx: dict[str, int] = {}
        self.root = ', '.join(str(getattr(part, 'root', None) or getattr(part, 'name', '')) for part in parts)
        self.note = '; '.join(note for part in parts if (note := getattr(part, 'note', None))) or None
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def _find(self, index: int) -> tuple[Any, int]:
        place = int(np.searchsorted(self._ends, index, side='right'))
        return self.parts[place], index - (self._ends[place - 1] if place else 0)

    def __getitem__(self, index: int) -> tuple[IO[bytes], int]:
        part, inside = self._find(index)
        return part[inside][:2]

    def _filename(self, index: int, basename: bool = False, absolute: bool = False) -> str:
        part, inside = self._find(index)
        return part.filename(inside, basename, absolute)
