"""The image files that a user means, and the names of what is written about each.

This module is light, so that a command can say what is wrong with its paths before it imports torch.
"""

import glob
import hashlib
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.base.folders import LeftOut, find_images, is_image, is_visible, natural_key

HEIF = ('.heic', '.heif', '.hif')
"""Endings of what phones store, which Pillow does not decode by itself. Such a file is an image: it is not left out of
a folder in silence, but refused with advice."""
LONGEST = 150
"""Bytes of a part of a written path; file systems take 255, and a temporary file's name is longer."""


@dataclass(frozen=True)
class ImageFile:
    """An image file of a user.

    Attributes:
        path: The file, as the user's argument leads to it.
        name: The name of what is written about it: its path below the folder that all images lie in, with ``/``
            between folders. No two files have the same, not even on a disk that does not tell cases apart.
    """

    path: str
    name: str


@dataclass
class Found:
    """What the arguments of a command lead to.

    Attributes:
        files: Each image once, in the order of the arguments, and in natural order within a folder.
        notes: Lines about what was left out.
    """

    files: list[ImageFile]
    notes: list[str] = field(default_factory=list)


def find_files(arguments: Sequence[str | os.PathLike], out: str | os.PathLike | None = None) -> Found:
    """Find the images that files, folders and patterns of a shell lead to.

    Args:
        arguments: Files are taken whatever their names are; of folders and patterns, what is named like an image. A
            path that exists comes before the pattern that it may look like.
        out: Folder that is written to; nothing below it is taken.

    Raises:
        FileNotFoundError: A path does not exist, or a pattern fits nothing.
        ValueError: A folder or pattern has no image.
    """
    notes: list[str] = []
    paths: list[str] = []
    for argument in arguments:
        paths += _expand(os.fspath(argument), notes)
    written = os.path.abspath(out) + os.sep if out is not None else None
    absolute = {os.path.abspath(path): path for path in reversed(paths)}
    unique = list(dict.fromkeys(map(os.path.abspath, paths)))
    if written is not None:
        kept = [path for path in unique if not path.startswith(written)]
        if len(kept) < len(unique):
            notes.append(f'left out {len(unique) - len(kept)} images below the folder that is written to')
        if not kept:
            raise ValueError(f"all images lie below '{out}', which is written to; give another --out")
    else:
        kept = unique
    if len(unique) < len(paths):
        notes.append(f'{len(paths) - len(unique)} images are given more than once, and taken once')
    names = unique_names(kept, _root(arguments, kept))
    return Found([ImageFile(absolute[path], name) for path, name in zip(kept, names, strict=True)], notes)


def _expand(argument: str, notes: list[str]) -> list[str]:
    """The files that one argument leads to."""
    if os.path.isdir(argument):
        return _inside(argument, notes)
    if os.path.exists(argument):
        return [argument]
    if '://' in argument:
        raise FileNotFoundError(f"image '{argument}' is an address, and no file; download it first")
    if os.path.islink(argument):
        raise FileNotFoundError(f"image '{argument}' is a link to nothing; restore what it leads to")
    if not glob.has_magic(argument):
        raise FileNotFoundError(f"image '{argument}' does not exist; correct the path")
    matches = sorted(glob.glob(argument, recursive=True), key=natural_key)
    if not matches:
        raise FileNotFoundError(f"no file fits the pattern '{argument}'; correct it, or give a folder")
    # `**` gives a folder and the files in it: these come once, and a folder itself where a pattern gives it alone.
    files = [path for path in matches if not os.path.isdir(path) and is_photo(os.path.basename(path))]
    for folder in (path for path in matches if os.path.isdir(path) and '**' not in argument):
        if is_visible(os.path.basename(folder.rstrip(os.sep))):
            files += _inside(folder, notes, required=False)
    if not files:
        raise ValueError(
            f"of {len(matches)} files that fit '{argument}' none is named like an image, such as '{matches[0]}'; "
            'correct the pattern'
        )
    return files


def _inside(folder: str, notes: list[str], required: bool = True) -> list[str]:
    left_out = LeftOut()
    found = find_images(folder, left_out, accepts=is_photo)
    if not found and required:
        there = f'; it has {left_out}' if left_out else ''
        raise ValueError(f"folder '{folder}' has no image{there}: give one with files that end in .jpg, .png, .webp, …")
    if left_out:
        notes.append(f"'{folder}': left out {left_out}")
    return [os.path.join(folder, name) for name in sorted(found, key=natural_key)]


def is_photo(name: str) -> bool:
    """Whether a file's name is that of an image, also of one that cannot be decoded here."""
    return is_image(name) or (name[0] != '.' and name.lower().endswith(HEIF))


def _root(arguments: Sequence[str | os.PathLike], files: Sequence[str]) -> str:
    """The folder that names start at: the one folder that was given, or the deepest one that holds all files."""
    folders = [os.path.abspath(one) for one in arguments if os.path.isdir(one)]
    if len(arguments) == 1 and folders:
        return folders[0]
    return os.path.commonpath([*folders, *(os.path.dirname(path) for path in files)])


def unique_names(paths: Sequence[str], root: str) -> list[str]:
    """Names for what is written about files, which keep the tree of folders.

    Args:
        paths: Absolute paths below the root.
        root: An absolute path.

    Returns:
        For each path a relative one with ``/`` between folders. A part that is too long is cut, and a name that differs
        from another one in case or in the form of its letters alone gets a number.
    """
    names: list[str] = []
    taken: set[str] = set()
    for path in paths:
        name = '/'.join(_cut(part) for part in os.path.relpath(path, root).split(os.sep))
        candidates = _numbered(name)
        chosen = next(one for one in candidates if _folded(one) not in taken)
        taken.add(_folded(chosen))
        names.append(chosen)
    return names


def _numbered(name: str) -> Iterator[str]:
    yield name
    stem, ending = os.path.splitext(name)
    number = 2
    while True:
        yield f'{stem}~{number}{ending}'
        number += 1


def _folded(name: str) -> str:
    return unicodedata.normalize('NFC', name).casefold()


def _cut(part: str) -> str:
    encoded = os.fsencode(part)
    if len(encoded) <= LONGEST:
        return part
    ending = Path(part).suffix[:10]
    head = encoded[: LONGEST - 30].decode(errors='ignore')
    return f'{head}~{hashlib.sha256(encoded).hexdigest()[:12]}{ending}'


def shown(text: str) -> str:
    """A path for a line on a screen: what a terminal would act on, such as a line break, is escaped."""
    return ''.join(one if one.isprintable() else one.encode('unicode_escape', 'surrogatepass').decode() for one in text)
