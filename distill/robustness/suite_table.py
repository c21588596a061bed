"""The benchmarks, one line each: where they lie, which classes they have, and how their images are shown."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from distill.robustness import imagenet

ON_THE_FLY, DISK = 'on-the-fly', 'disk'


class ClassSet(Enum):
    """The class folders of a suite, and what a decision for an image is made between.

    All code that depends on the kind of class set asks the properties below.
    """

    ALL = 'all'
    """A folder for each of the model's classes."""
    SOME = 'some'
    """Folders of some of the model's classes; the folder tells which."""
    IMAGENET_A = 'a'
    """The 200 classes of ImageNet-A."""
    IMAGENET_R = 'r'
    """The 200 classes of ImageNet-R."""
    CATEGORIES = 'categories'
    """The 16 categories of cue conflict, each of several of ImageNet's classes."""
    ANY = 'any'
    """A plain folder: of class folders with any of the model's classes, or of images without labels."""

    @property
    def wnids(self) -> frozenset[str] | None:
        """The classes that a published list names, by WordNet id, or None where there is no list."""
        listed = self in (ClassSet.IMAGENET_A, ClassSet.IMAGENET_R)
        return frozenset(imagenet.synsets(self.value)) if listed else None

    @property
    def categories(self) -> dict[str, list[int]]:
        """Columns of the logits by category; empty where a decision is made between the model's own classes.

        The probability of a category is the mean over its classes.
        """
        return imagenet.categories() if self is ClassSet.CATEGORIES else {}

    @property
    def is_cut(self) -> bool:
        """Whether logits are cut to the set's classes before the decision, as in the published scores."""
        return self in (ClassSet.SOME, ClassSet.IMAGENET_A, ClassSet.IMAGENET_R)

    @property
    def may_lack_folders(self) -> bool:
        """Whether class folders may be missing."""
        return self in (ClassSet.SOME, ClassSet.ANY)

    @property
    def may_lack_labels(self) -> bool:
        """Whether images may lie there without class folders."""
        return self is ClassSet.ANY


@dataclass(frozen=True)
class Suite:
    """One benchmark.

    Attributes:
        name: On the command line, and but for corruptions the key in ``results.json``.
        folders: Names that its folder may have below the data root; in the folder lies ``<class>/<image>``.
        shift: What the suite shifts, for people.
        classes: Its class folders.
        numbered: Class folders are called 0, 1, 2, … in the order of the classes.
        stored_px: Side of the images, which are shown as they are stored: not resized, not cropped.
        corrupted: None, or where corrupted images come from: `ON_THE_FLY` makes them, in all kinds and severities;
            on `DISK` they lie in ``<kind>/<severity>/<class>/<image>``.
        textures: File names tell the texture, ``<shape><n>-<texture><m>.jpg``, and the class folder the shape.
    """

    name: str
    folders: tuple[str, ...]
    shift: str
    classes: ClassSet = ClassSet.ALL
    numbered: bool = False
    stored_px: int | None = None
    corrupted: str | None = None
    textures: bool = False

    @property
    def key(self) -> str:
        """Key in ``results.json``: both sources of corruptions have the same, for they must not stand side by side."""
        return 'corruption' if self.corrupted else self.name

    @property
    def subset(self) -> bool:
        """Whether logits are cut to some of the classes."""
        return self.classes.is_cut

    @property
    def averaged(self) -> bool:
        """Whether a decision's confidence is a mean over classes, and so no probability that the decision is right."""
        return bool(self.classes.categories)


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
    Suite('rendition', ('rendition', 'imagenet-r'), 'artistic renditions', ClassSet.IMAGENET_R),
    Suite('sketch', ('sketch', 'imagenet-sketch'), 'line drawings'),
    Suite('adversarial', ('adversarial', 'imagenet-a'), 'natural images that are hard', ClassSet.IMAGENET_A),
    Suite(
        'cue_conflict',
        ('cue_conflict', 'cue-conflict', 'style-transfer-preprocessed-512'),
        'texture of another category',
        ClassSet.CATEGORIES,
        stored_px=224,
        textures=True,
    ),
)
"""For models of ImageNet's 1,000 classes. The second name of a folder is the release's."""
OWN_SUITES = (
    Suite('clean', ('val',), 'none'),
    Suite('stylized', ('stylized',), 'texture of another class', textures=True),
    Suite('corruption', ('val',), MADE, corrupted=ON_THE_FLY),
    Suite('rendition', ('rendition',), 'artistic renditions', ClassSet.SOME),
    Suite('sketch', ('sketch',), 'line drawings'),
    Suite('adversarial', ('adversarial',), 'natural images that are hard', ClassSet.SOME),
)
"""The counterparts that distill.synthetic writes, for models of any other classes."""
SUITE_NAMES = tuple(dict.fromkeys(suite.name for suite in IMAGENET_SUITES + OWN_SUITES))


def find_folder(suite: Suite, data_root: str | Path) -> Path | None:
    """Find the folder of a suite below the data root, or None."""
    return next((folder for name in suite.folders if (folder := Path(data_root) / name).is_dir()), None)


def plain_suite(folder: str | Path) -> Suite:
    """Make a suite of a folder of class folders with some of the model's classes, or of images without labels.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The folder has the name of a suite.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"image folder '{folder}' does not exist; correct the path")
    if folder.name in (*SUITE_NAMES, 'corruption'):
        raise ValueError(f"image folder '{folder}' has the name of a suite; rename it, or pass --suite {folder.name}")
    return Suite(folder.name, (str(folder.resolve()),), 'your own', ClassSet.ANY)
