"""A small copy of a user's class folders: small pictures, a training and a validation part, nothing broken."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from distill.base.classes import first
from distill.base.files import read_json, remove_leftovers, temporary_path, write_json
from distill.base.folders import ClassFolders, find_split
from distill.base.images import decode

MOST = {'train': 6000, 'val': 1000}
"""Images of a part at most: as many as a demo of minutes has time for."""
VAL_SHARE = 0.2
"""Share of a class's images that is kept for validation, where the user has made no parts."""
RECORD = 'small_set.json'


@dataclass(frozen=True)
class Source:
    """Images of a user, by part.

    Attributes:
        images: By part and class, files.
        is_split: Whether this project has made the parts.
        notes: Lines about what is left out.
    """

    images: dict[str, dict[str, list[Path]]]
    is_split: bool
    notes: list[str]


def find_source(root: Path, seed: int = 0) -> Source:
    """Find ``root/<class>/…`` or ``root/{train,val}/<class>/…``, and choose the images that a small set has room for.

    Args:
        root: The user's folder.
        seed: Seed of the parts, and of the choice among too many images.

    Raises:
        ValueError: There are fewer than two classes, a class has fewer than two images, or the parts differ in classes.
        FileNotFoundError: The folder, or its validation part, does not exist.
    """
    rng = np.random.default_rng(seed)
    is_split = not (root / 'train').is_dir()
    if is_split:
        found = ClassFolders.read(root)
        read = {'train': found}
        whole = _shuffled(found, rng)
        if few := [name for name, files in whole.items() if len(files) < 2]:
            raise ValueError(f"class folder '{root / few[0]}' has one image; two parts need two or more of each class")
        counts = {name: max(1, round(VAL_SHARE * len(files))) for name, files in whole.items()}
        images = {
            'train': {name: files[counts[name] :] for name, files in whole.items()},
            'val': {name: files[: counts[name]] for name, files in whole.items()},
        }
    else:
        read = {part: ClassFolders.read(find_split(str(root), part)) for part in MOST}
        images = {part: _shuffled(found, rng) for part, found in read.items()}
        if images['train'].keys() != images['val'].keys():
            odd = sorted(images['train'].keys() ^ images['val'].keys())
            raise ValueError(
                f"the parts of '{root}' have different classes ({first(odd, 3)}); give both the same folders"
            )
    if len(images['train']) < 2:
        only = next(iter(images['train']))
        raise ValueError(
            f"'{root}' has one class, '{only}'; give two or more: <class>/<image>, or train/ and val/ of it"
        )
    limited = {part: _limited(classes, MOST[part]) for part, classes in images.items()}
    return Source(limited, is_split, [note for found in read.values() if (note := found.note())])


def _shuffled(found: ClassFolders, rng: np.random.Generator) -> dict[str, list[Path]]:
    """The images of each class in random order."""
    return {name: [found.root / files[k] for k in rng.permutation(len(files))] for name, files in
            ((name, sorted(files)) for name, files in found.images.items())}  # fmt: skip


def _limited(classes: dict[str, list[Path]], most: int) -> dict[str, list[Path]]:
    """As many images of each class as there is room for, at least one."""
    room = max(1, most // len(classes))
    return {name: files[:room] for name, files in classes.items()}


def write_small_set(
    source: Source, root: Path, size: int, origin: str, advance: Callable[[], None] = lambda: None
) -> dict:
    """Write ``root/{train,val}/<class>/<number>.png`` of ``size`` pixels, unless the same set is there.

    An image is turned as its EXIF data say, brought to the size by its short side, and cut to its middle. One that
    cannot be decoded is left out and named.

    Args:
        source: What `find_source` has found.
        root: Where the set goes.
        size: Side in pixels.
        origin: Where the images come from, for the record.
        advance: Called after each image.

    Returns:
        The record: ``images`` by part, ``broken`` files, ``classes``, ``size``, ``origin``.

    Raises:
        ValueError: Another set is there, or a class has no image that can be decoded.
    """
    files = {part: {name: [str(path) for path in paths] for name, paths in classes.items()}
             for part, classes in source.images.items()}  # fmt: skip
    record = {'origin': origin, 'size': size, 'classes': list(files['train']), 'files': files}
    if (root / RECORD).is_file():
        known = read_json(root / RECORD)
        if all(known.get(key) == value for key, value in record.items()):
            return known
        raise ValueError(f"'{root}' holds a set of other images; choose another folder or delete it")
    remove_leftovers(root.parent)
    partial = temporary_path(root, 'partial')
    broken: list[str] = []
    try:
        counts = {part: _write_part(classes, partial / part, size, broken, advance)
                  for part, classes in source.images.items()}  # fmt: skip
        record |= {'images': counts, 'broken': broken}
        write_json(partial / RECORD, record)
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _write_part(
    classes: dict[str, list[Path]], folder: Path, size: int, broken: list[str], advance: Callable[[], None]
) -> int:
    """Write the images of one part; returns their number, and adds the broken ones' names."""
    count = 0
    for name, paths in classes.items():
        (folder / name).mkdir(parents=True)
        written = 0
        for image in _decoded(paths, broken, advance):
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
            image.save(folder / name / f'{written:05d}.png')
            written += 1
        if not written:
            raise ValueError(f"no image of class '{name}' can be decoded ({first(broken[-3:], 3)}); add some that can")
        count += written
    return count


def _decoded(paths: Iterable[Path], broken: list[str], advance: Callable[[], None]):
    """Each image that can be decoded."""
    for path in paths:
        try:
            with Image.open(path) as header:
                turned = header.getexif().get(0x0112, 1)
            image = decode(path.open('rb'), partial(Path, path))
            image.getexif()[0x0112] = turned
            yield ImageOps.exif_transpose(image)
        except (ValueError, OSError, SyntaxError, Image.DecompressionBombError):
            broken.append(str(path))
        advance()


def smaller_side(source: Source, looked_at: int = 20) -> int:
    """The median of the short sides of some images, in pixels; 0 if none can be read."""
    paths = [path for classes in source.images.values() for files in classes.values() for path in files]
    sides = []
    for path in paths[:: max(1, len(paths) // looked_at)]:
        try:
            with Image.open(path) as image:
                sides.append(min(image.size))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
    return int(np.median(sides)) if sides else 0
