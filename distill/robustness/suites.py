"""The benchmarks, one line each: what is read, and what its score means."""

from dataclasses import dataclass
from pathlib import Path

from distill.data import check_class_folders


@dataclass(frozen=True)
class Suite:
    """One benchmark.

    Attributes:
        name: Key in ``results.json``.
        folder: Folder below the data root: ``<folder>/<class>/<image>``.
        shift: What it shifts, for people.
        corrupted: The images are corrupted on the fly, in all kinds and severities.
        cue_conflict: File names tell the texture: ``<shape><n>-<texture><m>.jpg``.
        subset: It has some of the classes only; logits are cut to these before the decision, as the published
            ImageNet-R and -A scores are.
    """

    name: str
    folder: str
    shift: str
    corrupted: bool = False
    cue_conflict: bool = False
    subset: bool = False


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite('clean', 'val', 'none'),
        Suite('stylized', 'stylized', 'texture of another class', cue_conflict=True),
        Suite('corruption', 'val', '15 corruptions at 5 severities, made on the fly', corrupted=True),
        Suite('rendition', 'rendition', 'artistic renditions', subset=True),
        Suite('sketch', 'sketch', 'line drawings'),
        Suite('adversarial', 'adversarial', 'natural images that are hard', subset=True),
    )
}


def choose_suites(names: list[str] | None, data_root: str) -> tuple[list[Suite], list[Suite]]:
    """The suites to run.

    Args:
        names: Wanted suites; None takes those whose folder is there.
        data_root: Where the folders are.

    Returns:
        Suites to run, and those left out for want of a folder.

    Raises:
        FileNotFoundError: The data root, or the folder of a suite that was asked for, does not exist.
        ValueError: A name is unknown.
    """
    root = Path(data_root)
    if not root.is_dir():
        raise FileNotFoundError(f"data root '{root}' does not exist; make or unpack the data, or pass --data-root")
    for name in names or ():
        if name not in SUITES:
            raise ValueError(f"suite '{name}' is unknown; choose from {', '.join(SUITES)}")
        if not (root / SUITES[name].folder).is_dir():
            raise FileNotFoundError(
                f"suite '{name}' needs the folder '{root / SUITES[name].folder}'; make it or leave it out"
            )
    wanted = [SUITES[name] for name in names or SUITES]
    present = [suite for suite in wanted if (root / suite.folder).is_dir()]
    if not present:
        folders = ', '.join(sorted({suite.folder for suite in wanted}))
        raise FileNotFoundError(f"data root '{root}' has none of the folders {folders}")
    return present, [suite for suite in wanted if suite not in present]


def class_indices(suite: Suite, data_root: str, classes: list[str]) -> list[int]:
    """Where a suite's class folders are among a model's classes.

    Args:
        suite: The suite.
        data_root: Where its folder is.
        classes: The model's classes, in order.

    Returns:
        An index for each class folder, in the folders' order.

    Raises:
        ValueError: A folder is none of the classes, or classes are missing where all are expected.
    """
    folder = Path(data_root) / suite.folder
    found = check_class_folders(folder)
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise ValueError(
            f"'{folder}' has the class '{unknown[0]}' ({len(unknown)} such) that the model does not know; "
            f'it was trained for {", ".join(classes[:4])}, …'
        )
    missing = [name for name in classes if name not in found]
    if missing and not suite.subset:
        raise ValueError(
            f"'{folder}' lacks the class '{missing[0]}' ({len(missing)} such); expected all {len(classes)} classes"
        )
    return [classes.index(name) for name in found]
