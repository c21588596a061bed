"""Endings of image files, and what a folder has of them."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    '.jpg .jpeg .jpe .jfif .png .apng .bmp .dib .gif .tif .tiff .webp .ppm .pgm .pbm .pnm .jp2 .j2k'.split()
)
"""Endings of images in lower case."""


def files_inside(folder: str | os.PathLike) -> list[str]:
    """Paths of the files below a folder, relative to it, without hidden ones; none if there is no such folder."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith('.')]
        inside = os.path.relpath(parent, folder)
        found += [os.path.normpath(os.path.join(inside, name)) for name in names if not name.startswith('.')]
    return found


def count_suffixes(names: Iterable[str | os.PathLike]) -> str:
    """How many files have which ending, for a message: ``.JPG (3), .png (12)``; the most frequent first."""
    counts = Counter(Path(name).suffix for name in names)
    return ', '.join(f'{suffix or "no suffix"} ({count})' for suffix, count in counts.most_common(5))
