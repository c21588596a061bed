"""The benchmarks, one line each: where they lie, which classes they have, and how their images are shown."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.base.images import check_class_folders
from distill.base.records import EXTRA_KINDS, KINDS, SEVERITIES
from distill.robustness import imagenet

ON_THE_FLY, DISK = 'on-the-fly', 'disk'


@dataclass(frozen=True)
class Suite:
    """One benchmark.

    Attributes:
        name: On the command line, and but for corruptions the key in ``results.json``.
        folders: Names that its folder may have below the data root; in it lies ``<class>/<image>``.
        shift: What it shifts, for people.
        classes: Its class folders: 'all' of the model's classes; 'some' of them; 'a' or 'r', the 200 of ImageNet-A or
            -R; 'categories', the 16 of cue conflict; 'any', a plain folder, labelled or not. For 'some', 'a' and 'r'
            logits are cut to these classes before the decision, as in the published scores; for 'categories' the
            probabilities of a category's classes are averaged.
        numbered: Class folders are called 0, 1, 2, … in the order of the classes.
        stored_px: Side of the images, which are shown as they are stored: not resized, not cropped.
        corrupted: None, or where corrupted images come from: `ON_THE_FLY` makes them, in all kinds and severities;
            on `DISK` they lie in ``<kind>/<severity>/<class>/<image>``.
        textures: File names tell the texture, ``<shape><n>-<texture><m>.jpg``, and the class folder the shape.
    """

    name: str
    folders: tuple[str, ...]
    shift: str
    classes: str = 'all'
    numbered: bool = False
    stored_px: int | None = None
    corrupted: str | None = None
    textures: bool = False

    @property
    def key(self) -> str:
        """Key in ``results.json``: both sources of corruptions have the same, for they must not stand side by side."""
        return 'corruption' if self.corrupted else self.name

    @property
    def averaged(self) -> bool:
        """Whether a decision's confidence is a mean over classes, and so no probability that it is right."""
        return self.classes == 'categories'

    @property
    def subset(self) -> bool:
        """Whether logits are cut to some of the classes."""
        return self.classes in ('some', 'a', 'r')


MADE = '15 corruptions at 5 severities, made on the fly'
STORED = '15 corruptions at 5 severities, as stored'
IMAGENET_SUITES = (
    Suite('clean', ('val',), 'none'),
    Suite('v2', ('imagenetv2-matched-frequency-format-val',), 'a new test set, as hard', numbered=True),
    Suite('v2_threshold', ('imagenetv2-threshold0.7-format-val',), 'a new test set, easier', numbered=True),
    Suite('v2_top', ('imagenetv2-top-images-format-val',), 'a new test set, easiest', numbered=True),
    Suite('stylized', ('stylized', 'stylized-imagenet/val'), 'style of a painting', stored_px=224),
    Suite('corruption', ('val',), MADE, corrupted=ON_THE_FLY),
    Suite('corruption_disk', ('imagenet-c', 'ImageNet-C'), STORED, stored_px=224, corrupted=DISK),
    Suite('rendition', ('rendition', 'imagenet-r'), 'artistic renditions', 'r'),
    Suite('sketch', ('sketch', 'imagenet-sketch'), 'line drawings'),
    Suite('adversarial', ('adversarial', 'imagenet-a'), 'natural images that are hard', 'a'),
    Suite(
        'cue_conflict',
        ('cue_conflict', 'cue-conflict', 'style-transfer-preprocessed-512'),
        'texture of another category',
        'categories',
        stored_px=224,
        textures=True,
    ),
)
"""For models of ImageNet's 1,000 classes. The folders' other names are those of the releases."""
OWN_SUITES = (
    Suite('clean', ('val',), 'none'),
    Suite('stylized', ('stylized',), 'texture of another class', textures=True),
    Suite('corruption', ('val',), MADE, corrupted=ON_THE_FLY),
    Suite('rendition', ('rendition',), 'artistic renditions', 'some'),
    Suite('sketch', ('sketch',), 'line drawings'),
    Suite('adversarial', ('adversarial',), 'natural images that are hard', 'some'),
)
"""Their embedded counterparts (distill.synthetic), for models of any other classes."""
SUITE_NAMES = tuple(dict.fromkeys(suite.name for suite in IMAGENET_SUITES + OWN_SUITES))


@dataclass(frozen=True)
class ImageSet:
    """A suite's images as they lie on disk, found to be complete.

    Attributes:
        suite: The suite.
        cells: How each image is shown: corruption and severity, or None for as it is.
        folders: Where each cell's images lie: one folder, or as many as cells.
        paths: Of the images below each folder.
        labels: Index of each image's class among `classes` [N]; -1 without labels.
        classes: What is decided between, in order.
        groups: For each class that may be decided for, its index among `classes` and its columns of the logits.
        sha256: Hash of the images' paths and sizes.
    """

    suite: Suite
    cells: list[tuple[str, int] | None]
    folders: list[Path]
    paths: list[str]
    labels: np.ndarray
    classes: list[str]
    groups: list[tuple[int, list[int]]]
    sha256: str

    @property
    def labelled(self) -> bool:
        """Whether accuracies can be told."""
        return bool((self.labels >= 0).all())


def suites_for(classes: Sequence[str]) -> dict[str, Suite]:
    """The suites, by name, that fit a model of these classes."""
    table = IMAGENET_SUITES if tuple(classes) == imagenet.synsets() else OWN_SUITES
    return {suite.name: suite for suite in table}


def choose_suites(names: list[str] | None, data_root: str, classes: Sequence[str]) -> tuple[list[Suite], list[Suite]]:
    """The suites to run.

    Args:
        names: Wanted suites; None takes those whose folder is there, and of the corrupted ones the one on disk first.
        data_root: Where the folders are.
        classes: The models' classes.

    Returns:
        Suites to run, and those left out for want of a folder.

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
        if find_folder(table[name], root) is None:
            raise FileNotFoundError(
                f"suite '{name}' needs the folder '{root / table[name].folders[0]}'; make it or leave it out"
            )
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


def find_folder(suite: Suite, data_root: str | Path) -> Path | None:
    """Where a suite lies, or None."""
    return next((folder for name in suite.folders if (folder := Path(data_root) / name).is_dir()), None)


def plain_suite(folder: str | Path) -> Suite:
    """A suite of one's own: a folder of class folders with some of the model's classes, or of images without labels.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: It has the name of a suite.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"image folder '{folder}' does not exist; correct the path")
    if folder.name in (*SUITE_NAMES, 'corruption'):
        raise ValueError(f"image folder '{folder}' has the name of a suite; rename it, or pass --suite {folder.name}")
    return Suite(folder.name, (str(folder.resolve()),), 'your own', 'any')


def open_suite(
    suite: Suite, data_root: str | Path, classes: Sequence[str], limit: int | None = None, extra: bool = False
) -> ImageSet:
    """List a suite's images and check its class folders.

    Args:
        suite: The suite.
        data_root: Where its folder is.
        classes: The model's classes, in order.
        limit: How many images of a corrupted suite to take, spread evenly; None takes all.
        extra: Take the four extra kinds of corruption as well.

    Raises:
        ValueError: Class folders or a corruption are missing, empty, or too many, or a corruption lacks images.
    """
    folder = find_folder(suite, data_root)
    kinds = KINDS + EXTRA_KINDS if extra else KINDS
    cells = [(kind, severity) for kind in kinds for severity in SEVERITIES] if suite.corrupted else [None]
    folders = [_cell_folder(folder, *cell) for cell in cells] if suite.corrupted == DISK else [folder]
    categories = imagenet.categories() if suite.classes == 'categories' else {}
    names = list(categories or classes)
    if suite.classes == 'any' and not any(path.is_dir() for path in folder.iterdir()):
        label_of = {'.': -1}
    else:
        label_of = _label_of(suite, folders[0], check_class_folders(folders[0]), names)
        for other in folders[1:]:
            _label_of(suite, other, [entry.name for entry in os.scandir(other) if entry.is_dir()], names)
        _check_counts(folders, list(label_of))
    files = [(path, label) for name, label in label_of.items() for path in _files(folders[0] / name)]
    # By path, so that models of the same classes in another order see the same images in the same order.
    files.sort(key=lambda file: file[0].relative_to(folders[0]).parts)
    if not files:
        raise ValueError(f"'{folder}' has no image; fill it or leave it out")
    if suite.corrupted and limit is not None and limit < len(files):
        files = [files[i] for i in np.linspace(0, len(files) - 1, limit).round().astype(int)]
    columns = list(label_of.values()) if suite.subset else range(len(classes))
    groups = list(enumerate(categories.values())) if categories else [(k, [k]) for k in columns]
    paths = [path.relative_to(folders[0]).as_posix() for path, _ in files]
    listed = ''.join(f'{name} {path.stat().st_size}\n' for name, (path, _) in zip(paths, files, strict=True))
    labels, sha256 = np.array([label for _, label in files]), hashlib.sha256(listed.encode()).hexdigest()
    return ImageSet(suite, cells, folders, paths, labels, names, groups, sha256)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob('*') if path.is_file() and not path.name.startswith('.'))


def _check_counts(folders: Sequence[Path], names: Sequence[str]) -> None:
    """Cells of a corrupted set show the same images; their names are only looked at when they are read."""
    if len(folders) == 1:
        return
    count, *others = (
        {name: sum(not file.startswith('.') for file in os.listdir(folder / name)) for name in names}
        for folder in folders
    )
    for folder, found in zip(folders[1:], others, strict=True):
        for name in names:
            if found[name] != count[name]:
                raise ValueError(
                    f"'{folder / name}' has {found[name]} images and '{folders[0] / name}' {count[name]}; "
                    'unpack both again'
                )


def _cell_folder(folder: Path, kind: str, severity: int) -> Path:
    """Where a cell of a corrupted set lies; the release keeps kinds in noise/, blur/, weather/, digital/, extra/."""
    for path in (folder / kind, *sorted(folder.glob(f'*/{kind}'))):
        if (path / str(severity)).is_dir():
            return path / str(severity)
    raise ValueError(f"'{folder}' lacks {kind}/{severity}; unpack that part of the set as well")


def _label_of(suite: Suite, folder: Path, found: Sequence[str], names: list[str]) -> dict[str, int]:
    """The class folders that were found, in the order of their labels, and these.

    Raises:
        ValueError: Folders are missing or too many.
    """
    present = set(found)
    subset = set(imagenet.synsets(suite.classes)) if suite.classes in ('a', 'r') else None
    folder_names = [str(k) for k in range(len(names))] if suite.numbered else names
    expected = {name: k for k, name in enumerate(folder_names) if subset is None or name in subset}
    missing = [] if suite.classes in ('some', 'any') else [name for name in expected if name not in present]
    extra = [name for name in found if name not in expected]
    if missing or extra:
        problems = [f'lacks {len(missing)} of {len(expected)} class folders ({_first(missing)})'] if missing else []
        problems += [f'has {len(extra)} that are no class of suite {suite.name} ({_first(extra)})'] if extra else []
        raise ValueError(f"'{folder}' {' and '.join(problems)}; it should have {_first(expected)}")
    return {name: k for name, k in expected.items() if name in present}


def _first(names: Iterable[str], count: int = 4) -> str:
    names = list(names)
    return ', '.join(names[:count]) + (', …' if len(names) > count else '')
