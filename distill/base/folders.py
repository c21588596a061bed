"""Folders of images: which files are images, which folders are classes, in which order, and what is left out.

The one reader of class folders, ``<root>/<class>/…/<image>``, for training, evaluation, pictures and caches.
"""

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from distill.base.classes import first

UNDECODED = ('BUFR', 'EPS', 'GRIB', 'HDF5', 'MPEG', 'WMF')
"""Formats that Pillow knows by name and does not decode by itself."""

SYSTEM_FOLDERS = frozenset(
    ('__macosx', '__pycache__', '@eadir', '@recycle', '#recycle', '#snapshot', '$recycle.bin', 'lost+found')
    + ('system volume information',)
)
"""Folders that archivers, file systems and storage devices leave, in lower case."""

NAMED = 1000
"""Names of left-out files that are kept, to show the first of them."""


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The suffixes of all formats that Pillow decodes here, in lower case: ``.jpg``, ``.webp``, …."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, name in known.items() if name in Image.OPEN and name not in UNDECODED)


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image: not hidden, with a suffix of `image_suffixes` in any case."""
    return name[0] != '.' and name[name.rfind('.') :].lower() in image_suffixes()


def is_visible(folder: str) -> bool:
    """Whether a folder's name is a user's choice: not hidden, and none of `SYSTEM_FOLDERS`."""
    return not folder.startswith('.') and folder.lower() not in SYSTEM_FOLDERS


def natural_key(name: str) -> tuple:
    """Sort names as timm does, by the numbers in them and in any case: 2 before 10, apple before Banana.

    Differs from timm's key: names that differ in case alone have an order too, and a superscript is no number.
    """
    parts = [int(part) if part.isdecimal() else part for part in re.split(r'(\d+)', name.lower())]
    return parts, name


@dataclass
class LeftOut:
    """What a folder holds besides images of classes.

    Attributes:
        counts: How many, by what it is.
        names: The first names, by what it is.
    """

    counts: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, name: str) -> None:
        """Count one."""
        self.counts[what] = self.counts.get(what, 0) + 1
        names = self.names.setdefault(what, [])
        if len(names) < NAMED:
            names.append(name)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        return ' and '.join(
            f'{what} ({count}: {first(sorted(self.names[what]), 3)})' for what, count in self.counts.items()
        )


OTHER_FILES = 'other files'
LOOSE = 'images beside the class folders'
BROKEN_LINKS = 'links to nothing'
HIDDEN = 'hidden or system folders'
EMPTY = 'empty folders'
LOOPS = 'links to a folder above'


@dataclass(frozen=True)
class ClassFolders:
    """The class folders of an image set and their images.

    Attributes:
        root: The folder.
        images: By class, in natural order, paths of the images below the root with ``/`` between folders, unsorted.
        left_out: What else is there.
    """

    root: Path
    images: dict[str, list[str]]
    left_out: LeftOut

    @classmethod
    def read(cls, root: str | os.PathLike) -> 'ClassFolders':
        """List the images of all class folders.

        A visible folder directly in the root is a class, and has the images of visible folders below it too.

        Raises:
            ValueError: There is no class folder, or one has no image or leads nowhere.
        """
        left_out = LeftOut()
        names = class_folders(root, left_out)
        lost = [name for name in left_out.names.get(BROKEN_LINKS, ()) if not is_image(name)]
        if lost:
            raise ValueError(
                f"'{root}' has links to nothing where class folders are: {first(sorted(lost))}; restore or delete them"
            )
        if not names:
            has_images = LOOSE in left_out.counts
            found = 'images and no class folders' if has_images else 'no class folders'
            without = '; training without labels (dataset.labels=False) takes them as they are' if has_images else ''
            raise ValueError(f"'{root}' has {found}; expected {root}/<class>/<image>{without}")
        images = {name: find_images(root, left_out, name) for name in names}
        empty = [name for name in names if not images[name]]
        if empty:
            others = LeftOut()
            find_images(root, others, empty[0])
            found = f'; it has {others}, and images end in .jpg, .png, .webp, …' if others else ''
            raise ValueError(
                f"class folder '{Path(root) / empty[0]}' has no image ({len(empty)} such); fill or delete it{found}"
            )
        return cls(Path(root), images, left_out)

    @property
    def classes(self) -> list[str]:
        """Names of the classes in natural order."""
        return list(self.images)

    def note(self) -> str | None:
        """One line that counts what is left out, or None."""
        return left_out_line(self.root, self.left_out)


def left_out_line(root: str | os.PathLike, left_out: LeftOut) -> str | None:
    """One line that counts what is left out of a folder, or None."""
    return f"'{root}': left out {left_out}" if left_out else None


def class_folders(root: str | os.PathLike, left_out: LeftOut | None = None) -> list[str]:
    """The names of the class folders of an image set, its visible folders, in natural order.

    Args:
        root: The folder.
        left_out: Takes what else lies directly in the root.
    """
    left_out = LeftOut() if left_out is None else left_out
    names = []
    with os.scandir(os.fspath(root)) as entries:
        for entry in entries:
            if entry.is_symlink() and not os.path.exists(entry.path):
                left_out.add(BROKEN_LINKS, entry.name)
            elif not entry.is_dir():
                left_out.add(LOOSE if is_image(entry.name) else OTHER_FILES, entry.name)
            elif is_visible(entry.name):
                names.append(entry.name)
            else:
                left_out.add(HIDDEN, entry.name)
    return sorted(names, key=natural_key)


def find_images(
    root: str | os.PathLike,
    left_out: LeftOut | None = None,
    below: str = '',
    accepts: Callable[[str], bool] = is_image,
) -> list[str]:
    """Find the images in a folder and in all visible folders below it; links are followed.

    Args:
        root: The folder that paths are relative to.
        left_out: Takes what else is there.
        below: Folder below the root to look in.
        accepts: Whether a file's name is that of an image.

    Returns:
        Paths below the root with ``/`` between folders, in no order.
    """
    found: list[str] = []
    _find_images(os.fspath(root), below, found, LeftOut() if left_out is None else left_out, accepts)
    return found


def _find_images(root: str, below: str, found: list[str], left_out: LeftOut, accepts: Callable[[str], bool]) -> None:
    prefix = f'{below}/' if below else ''
    is_empty = True
    with os.scandir(os.path.join(root, below) if below else root) as entries:
        for entry in entries:
            is_empty = False
            name = entry.name
            if entry.is_dir():
                if not is_visible(name):
                    left_out.add(HIDDEN, prefix + name)
                elif entry.is_symlink() and _leads_up(root, prefix + name):
                    left_out.add(LOOPS, prefix + name)
                else:
                    _find_images(root, prefix + name, found, left_out, accepts)
            elif not accepts(name):
                left_out.add(OTHER_FILES, prefix + name)
            elif entry.is_symlink() and not entry.is_file():
                left_out.add(BROKEN_LINKS, prefix + name)
            else:
                found.append(prefix + name)
    if is_empty and '/' in below:
        left_out.add(EMPTY, below)


def _leads_up(root: str, path: str) -> bool:
    """Whether a linked folder is one of the folders that lead to it."""
    target, parts = os.path.realpath(os.path.join(root, path)), path.split('/')
    return any(os.path.realpath(os.path.join(root, *parts[:depth])) == target for depth in range(len(parts)))


def find_split(root: str, split: str) -> Path:
    """Find the folder or tar file of a split, under the names that timm also tries.

    Raises:
        FileNotFoundError: The root, or a split of any of these names in it, does not exist.
        ValueError: The root is another file.
    """
    if Path(root).is_file() and Path(root).suffix == '.tar':
        return Path(root)
    if Path(root).is_file():
        raise ValueError(f"data root '{root}' is a file and no .tar; give a folder, a tar file, or a list of images")
    if not Path(root).is_dir():
        raise FileNotFoundError(f"data root '{root}' does not exist; make or unpack the data, or pass --data-root")
    synonyms = {'val': ['val', 'validation', 'test'], 'validation': ['validation', 'val', 'test']}
    for name in synonyms.get(split, [split]):
        if (Path(root) / name).is_dir():
            return Path(root) / name
        if (Path(root) / f'{name}.tar').is_file():
            return Path(root) / f'{name}.tar'
    found = ', '.join(class_folders(root)[:8]) or 'no folder'
    raise FileNotFoundError(f"data root '{root}' has no folder '{split}' nor '{split}.tar'; found {found}")
