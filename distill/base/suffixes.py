"""The files of a folder, and which endings they have."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from distill.base.folders import is_image


def files_inside(folder: str | os.PathLike) -> list[str]:
    """Paths of the files below a folder, relative to it, without hidden ones; none if there is no such folder."""
    return [name for name, entry in _entries(os.fspath(folder)) if entry.is_file()]


def images_that_are_none(folder: str | os.PathLike) -> list[str]:
    """Paths below a folder that are named like images and are folders, or links to nothing."""
    named = ((name, entry) for name, entry in _entries(os.fspath(folder)) if is_image(entry.name))
    return sorted(name for name, entry in named if not entry.is_file())


def _entries(folder: str, inside: str = '') -> Iterator[tuple[str, os.DirEntry]]:
    """Files and folders below a folder, which links may lead to, with their relative paths."""
    if not os.path.isdir(folder):
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith('.'):
                continue
            yield inside + entry.name, entry
            if entry.is_dir():
                yield from _entries(entry.path, f'{inside}{entry.name}/')


def count_suffixes(names: Iterable[str | os.PathLike]) -> str:
    """How many files have which ending, for a message: ``.JPG (3), .png (12)``; the most frequent first."""
    counts = Counter(Path(name).suffix for name in names)
    return ', '.join(f'{suffix or "no suffix"} ({count})' for suffix, count in counts.most_common(5))
