"""Which suites fit a model and are there, and the images of each on disk, checked before anything runs."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.base.classes import first
from distill.base.folders import ClassFolders, LeftOut, class_folders, find_images, left_out_line
from distill.base.processes import rank_and_count
from distill.base.records import EXTRA_KINDS, KINDS, Cell, cells_of
from distill.robustness import imagenet
from distill.robustness.suite_table import (
    DISK,
    IMAGENET_SUITES,
    ON_THE_FLY,
    OWN_SUITES,
    Suite,
    find_folder,
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageSet:
    """The images of a suite as they lie on disk, found to be complete.

    Attributes:
        suite: The suite.
        cells: The corruptions in which each image is shown; None shows the image as it is.
        folders: Where the images of each cell lie: one folder, or as many as cells.
        paths: Of the images below each folder.
        labels: Index of each image's class among `classes` [N]; -1 without labels.
        classes: Names of the classes or categories, in order.
        groups: For each class that may be decided for, its index among `classes` and its columns of the logits.
        sha256: Hash of the paths and sizes of the images.
    """

    suite: Suite
    cells: list[Cell | None]
    folders: list[Path]
    paths: list[str]
    labels: np.ndarray
    classes: list[str]
    groups: list[tuple[int, list[int]]]
    sha256: str

    @property
    def corruptions(self) -> list[Cell]:
        """The cells of a corrupted suite; of others there are none."""
        return [cell for cell in self.cells if cell is not None]

    @property
    def labelled(self) -> bool:
        """Whether every image has a label, so that there are accuracies."""
        return bool((self.labels >= 0).all())


def suites_for(classes: Sequence[str]) -> dict[str, Suite]:
    """List, by name, the suites that fit a model of these classes."""
    table = IMAGENET_SUITES if sorted(classes) == sorted(imagenet.synsets()) else OWN_SUITES
    return {suite.name: suite for suite in table}


def choose_suites(names: list[str] | None, data_root: str, classes: Sequence[str]) -> tuple[list[Suite], list[Suite]]:
    """Choose the suites to run.

    Args:
        names: Wanted suites; None takes those whose folder is there, and of the two corrupted ones that on disk.
        data_root: Where the folders are.
        classes: The models' classes.

    Returns:
        The suites to run, and those that are left out for want of a folder.

    Raises:
        FileNotFoundError: The data root, or the folder of a suite that was asked for, does not exist.
        ValueError: A name is unknown, or two suites would have the same key.
    """
    root, table = Path(data_root), suites_for(classes)
    if not root.is_dir():
        raise FileNotFoundError(f"data root '{root}' does not exist; make or unpack the data, or pass --data-root")
    for name in names or ():
        if name not in table:
            raise ValueError(f"suite '{name}' is unknown for these classes; choose from {', '.join(table)}")
        _folder_of(table[name], root)
    wanted = [table[name] for name in dict.fromkeys(names or table)]
    present = [suite for suite in wanted if find_folder(suite, root) is not None]
    if not names and any(suite.corrupted == DISK for suite in present):
        present = [suite for suite in present if suite.corrupted != ON_THE_FLY]
    if not present:
        folders = ', '.join(sorted({suite.folders[0] for suite in wanted}))
        raise FileNotFoundError(f"data root '{root}' has none of the folders {folders}")
    if len({suite.key for suite in present}) < len(present):
        raise ValueError('corruption and corruption_disk do not compare; choose one, or another --out for the second')
    return present, [suite for suite in wanted if find_folder(suite, root) is None]


def _folder_of(suite: Suite, data_root: str | Path) -> Path:
    folder = find_folder(suite, data_root)
    if folder is None:
        missing = Path(data_root) / suite.folders[0]
        raise FileNotFoundError(f"suite '{suite.name}' needs the folder '{missing}'; make it or leave it out")
    return folder


def open_suite(
    suite: Suite, data_root: str | Path, classes: Sequence[str], limit: int | None = None, extra: bool = False
) -> ImageSet:
    """List the images of a suite and check its class folders.

    Args:
        suite: The suite.
        data_root: Where the suite's folder is.
        classes: The model's classes, in order.
        limit: How many images of a corrupted suite to take, spread evenly; None takes all.
        extra: Take the four extra kinds of corruption as well.

    Raises:
        FileNotFoundError: The suite's folder does not exist.
        ValueError: Class folders or a corruption are missing, empty, or too many, or a corruption lacks images.
    """
    folder = _folder_of(suite, data_root)
    kinds = KINDS + EXTRA_KINDS if extra else KINDS
    corruptions = cells_of(kinds) if suite.corrupted else []
    folders = [_cell_folder(folder, cell) for cell in corruptions] if suite.corrupted == DISK else [folder]
    categories = suite.classes.categories
    names = list(categories or classes)
    if suite.classes.may_lack_labels and not class_folders(folder):
        left_out = LeftOut()
        label_of, images = {'.': -1}, {'.': find_images(folder, left_out)}
        note = left_out_line(folder, left_out)
    else:
        found = ClassFolders.read(folders[0])
        label_of, images, note = _label_of(suite, folders[0], found.classes, names), found.images, found.note()
        for other in folders[1:]:
            _label_of(suite, other, class_folders(other), names)
        _check_counts(folders, {name: len(images[name]) for name in label_of})
    _say_once(note)
    files = [(path, label) for name, label in label_of.items() for path in images[name]]
    # By path, so that models of the same classes in another order see the same images in the same order.
    files.sort(key=lambda file: file[0].split('/'))
    if not files:
        raise ValueError(f"'{folder}' has no image; fill it or leave it out")
    if suite.corrupted and limit is not None and limit < len(files):
        files = [files[i] for i in np.linspace(0, len(files) - 1, limit).round().astype(int)]
    columns = list(label_of.values()) if suite.subset else range(len(classes))
    groups = [(k, [k]) for k in columns]
    if categories:
        place = {name: k for k, name in enumerate(classes)}
        synsets = imagenet.synsets()
        groups = [(k, [place[synsets[i]] for i in of]) for k, of in enumerate(categories.values())]
    paths = [path for path, _ in files]
    listed = ''.join(f'{path} {(folders[0] / path).stat().st_size}\n' for path in paths)
    labels, sha256 = np.array([label for _, label in files]), hashlib.sha256(listed.encode()).hexdigest()
    cells: list[Cell | None] = [*corruptions] or [None]
    return ImageSet(suite, cells, folders, paths, labels, names, groups, sha256)


def _say_once(note: str | None) -> None:
    """Log a line in the first process of a run, once: the models and suites of a run share folders."""
    if note and note not in _said and rank_and_count()[0] == 0:
        _said.add(note)
        _logger.warning(note)


_said: set[str] = set()


def _check_counts(folders: Sequence[Path], count: Mapping[str, int]) -> None:
    """Check that all cells of a corrupted set have as many images in each class; reading finds other names.

    Args:
        folders: Of the cells.
        count: Images of the first cell by class.
    """
    for folder in folders[1:]:
        for name, expected in count.items():
            found = len(find_images(folder, below=name))
            if found != expected:
                raise ValueError(
                    f"'{folder / name}' has {found} images and '{folders[0] / name}' {expected}; unpack both again"
                )


def _cell_folder(folder: Path, cell: Cell) -> Path:
    """Find the images of a cell; the release keeps the kinds in noise/, blur/, weather/, digital/ and extra/."""
    for path in (folder / cell.kind, *sorted(folder.glob(f'*/{cell.kind}'))):
        if (path / str(cell.severity)).is_dir():
            return path / str(cell.severity)
    raise ValueError(f"'{folder}' lacks {cell.kind}/{cell.severity}; unpack that part of the set as well")


def _label_of(suite: Suite, folder: Path, found: Sequence[str], names: list[str]) -> dict[str, int]:
    """Label the class folders that were found, in the order of the labels.

    Args:
        suite: The suite.
        folder: Where the class folders are, for the error.
        found: Their names.
        names: Names of the classes or categories, in order.

    Raises:
        ValueError: Folders are missing or too many.
    """
    present, subset = set(found), suite.classes.wnids
    # Folders are numbered in the order of ImageNet's list, whatever the order of the model's classes.
    number = {name: str(k) for k, name in enumerate(imagenet.synsets())} if suite.numbered else {}
    folder_names = [number.get(name, name) for name in names]
    expected = {name: k for k, name in enumerate(folder_names) if subset is None or name in subset}
    missing = [] if suite.classes.may_lack_folders else [name for name in expected if name not in present]
    extra = [name for name in found if name not in expected]
    if missing or extra:
        problems = [f'lacks {len(missing)} of {len(expected)} class folders ({first(missing, 4)})'] if missing else []
        problems += [f'has {len(extra)} that are no class of suite {suite.name} ({first(extra, 4)})'] if extra else []
        raise ValueError(f"'{folder}' {' and '.join(problems)}; it should have {first(list(expected), 4)}")
    return {name: k for name, k in expected.items() if name in present}
