"""Checks of what a call or a command is given, before anything heavy is imported."""

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from distill.base.extras import TRACKERS
from distill.base.paths import check_can_write, check_is_folder
from distill.base.records import cells_of, choose_kinds
from distill.engines import MODULES as ENGINES
from distill.engines import by_name
from distill.results.schema import FILE_NAME
from distill.robustness.sources import Source
from distill.robustness.suite_table import IMAGENET_SUITES, OWN_SUITES, SUITE_NAMES, find_folder, plain_suite

SCORES, PREDICTIONS = '.json', ('.pkl', '.pickle')
"""Endings of a test's files."""
LAUNCHERS = {
    'none': None,
    'pytorch': ('RANK', 'torchrun'),
    'slurm': ('SLURM_PROCID', 'srun'),
    'mpi': ('OMPI_COMM_WORLD_LOCAL_RANK', 'mpirun'),
}
"""How processes may be started: for each a variable that it sets in the environment, and the program to start."""
PROBES = ('knn', 'linear', 'ridge')
"""Classifiers of frozen features."""
Say = Callable[[str], str]
"""What a user knows a parameter by: `as_option` or `as_keyword`."""


def as_option(name: str) -> str:
    """A parameter as a command's option."""
    return f'--{name.replace("_", "-")}'


def as_keyword(name: str) -> str:
    """A parameter as a call's keyword."""
    return name


def check_launcher(launcher: str, say: Say = as_keyword) -> None:
    """Check that a launcher is known, and has started this process.

    Raises:
        ValueError: It is unknown, or its variable is not in the environment.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(f"{say('launcher')} '{launcher}' is unknown; choose from {', '.join(LAUNCHERS)}")
    mark = LAUNCHERS[launcher]
    if mark is not None and mark[0] not in os.environ:
        variable, program = mark
        raise ValueError(
            f'{say("launcher")} {launcher} finds no {variable} in the environment; start the command by {program}'
        )


def check_least(least: int, say: Say = as_keyword, **values: int | None) -> None:
    """Check that numbers are not below another; None stands for one that was not given.

    Raises:
        ValueError: One is below, or is no whole number.
    """
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f'{say(name)} is {value!r}; give {least} or more')


def check_trackers(names: Sequence[str]) -> None:
    """Check that experiment trackers are known and installed.

    Raises:
        ModuleNotFoundError: One is not installed.
        ValueError: One is unknown.
    """
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"tracker '{name}' is unknown; choose from {', '.join(TRACKERS)}")
        if find_spec(name) is None:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)


def check_evaluation(
    sources: Sequence[Source],
    data_root: str | os.PathLike | None,
    suites: Sequence[str] | None,
    images: Sequence[str | os.PathLike],
    out: str | os.PathLike | None,
    say: Say = as_keyword,
) -> None:
    """Check what an evaluation is given; whether the suites fit the classes of the models is known once these are.

    Args:
        sources: Names of the runs, and where their models are.
        data_root: Folder of the suites' folders.
        suites: Names of suites; None for those that are there.
        images: Plain folders of images.
        out: Where the results go.
        say: What a user knows the parameters by.

    Raises:
        FileNotFoundError: A model, the data root or the folder of a suite does not exist.
        OSError: The folder of the results cannot be written.
        ValueError: There is nothing to evaluate on, a suite is unknown, or runs share a name.
    """
    if not data_root and not images:
        raise ValueError(f'nothing to evaluate on; pass {say("data_root")}, or {say("images")}')
    if data_root:
        check_is_folder(data_root, 'data root', f'make or unpack the data, or pass another {say("data_root")}')
    for name in suites or ():
        check_suite(name, data_root)
    for folder in images:
        plain_suite(Path(folder))
    check_can_write(out, say('out'), is_folder=True)
    for source in sources:
        source.check()
    names = [source.name for source in sources]
    if not names:
        raise ValueError('no model to evaluate; give at least one')
    if len(set(names)) < len(names):
        way_out = 'name them with NAME=CHECKPOINT' if say is as_option else 'give a dictionary {name: model}'
        raise ValueError(f'two runs are called the same ({", ".join(names)}); {way_out}')


def check_probe(
    train: str | os.PathLike | None,
    data_root: str | os.PathLike | None,
    methods: Sequence[str],
    labels: Sequence[float],
    seeds: Sequence[int],
    neighbours: int,
    temperature: float,
    say: Say = as_keyword,
) -> None:
    """Check how classifiers of frozen features are to learn.

    Args:
        train: Folder of the training class folders; None for ``train`` in the data root.
        data_root: Folder of the suites' folders.
        methods: Of `PROBES`.
        labels: Shares of the labels.
        seeds: Of the choice of labels.
        neighbours: Of k-NN.
        temperature: Of its votes.
        say: What a user knows the parameters by.

    Raises:
        FileNotFoundError: There is no training folder.
        ValueError: A method is unknown, a number is out of range, or one is given twice.
    """
    check_least(1, say, neighbours=neighbours)
    for seed in seeds:
        check_least(0, say, seeds=seed)
    for method in methods:
        if method not in PROBES:
            raise ValueError(f"{say('methods')} '{method}' is unknown; choose from {', '.join(PROBES)}")
    for share in labels:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise ValueError(f'{say("labels")} is {share!r}; give a share above 0 and up to 1, such as 0.1')
    if not isinstance(temperature, (int, float)) or not temperature > 0:
        raise ValueError(f'{say("temperature")} is {temperature!r}; give a number above 0')
    for name, values in (('methods', methods), ('labels', labels), ('seeds', seeds)):
        if not values or len(set(values)) < len(values):
            raise ValueError(f'{say(name)} is {list(values)}; give one or more, each once')
    if train is not None:
        check_is_folder(train, 'training folder', f'give a folder of class folders as {say("train")}')
    elif not data_root:
        raise ValueError(f'nothing to learn from; pass {say("data_root")} with train/ in it, or {say("train")}')
    elif not (Path(data_root) / 'train').is_dir():
        raise FileNotFoundError(
            f"data root '{data_root}' has no folder 'train' to learn from; pass {say('train')}, a folder of class "
            'folders'
        )


def check_suite(name: str, data_root: str | os.PathLike | None) -> None:
    """Check that a suite exists, and its folder.

    Raises:
        ValueError: There is no suite of this name.
        FileNotFoundError: The data root has none of the folders of the suite.
    """
    named = [suite for suite in IMAGENET_SUITES + OWN_SUITES if suite.name == name]
    if not named:
        raise ValueError(f"suite '{name}' is unknown; choose from {', '.join(SUITE_NAMES)}")
    if data_root and not any(find_folder(suite, Path(data_root)) for suite in named):
        folder = Path(data_root) / named[0].folders[0]
        raise FileNotFoundError(f"suite '{name}' needs the folder '{folder}'; make it or leave it out")


def check_export(
    engines: Sequence[str], out: str | os.PathLike, images: str | os.PathLike | None, say: Say = as_keyword
) -> None:
    """Check what an export is given, and that its engines are installed.

    Args:
        engines: Names of engines.
        out: Folder of the files.
        images: Folder of images to verify with, or None.
        say: What a user knows the parameters by.

    Raises:
        FileNotFoundError: The folder of images does not exist.
        OSError: The folder of the files cannot be written.
        ValueError: No engine is given, or one is unknown or missing.
    """
    if not engines:
        raise ValueError(f'no engine is given; choose from {", ".join(ENGINES)}')
    check_can_write(out, say('out'), is_folder=True)
    if images is not None:
        check_is_folder(images, 'image folder', 'give a folder with images')
    for name in engines:
        engine = by_name(name)
        lacking = engine.missing()
        if lacking:
            raise ValueError(f"engine '{name}' needs {lacking}")


def check_explanation(
    sources: Sequence[Source],
    images: str | os.PathLike,
    out: str | os.PathLike,
    shown: int,
    batch_size: int,
    workers: int,
    say: Say = as_keyword,
) -> None:
    """Check what the explanation of a pair is given.

    Args:
        sources: The two models.
        images: Folder with images.
        out: Where pictures and numbers go.
        shown: Images with attribution.
        batch_size: Images of a forward pass.
        workers: Processes that decode images.
        say: What a user knows the parameters by.

    Raises:
        FileNotFoundError: A model or the folder of images does not exist.
        OSError: The folder of the results cannot be written.
        ValueError: There are not two models, they have one name, or a number is too small.
    """
    check_least(1, say, shown=shown, batch_size=batch_size)
    check_least(0, say, workers=workers)
    check_is_folder(images, 'image folder', 'give a folder with images')
    check_can_write(out, say('out'), is_folder=True)
    if len(sources) != 2:
        raise ValueError(f'{len(sources)} models are given; give two')
    for source in sources:
        source.check()
        if source.is_artefact:
            raise ValueError(
                f"'{source.path}' is an exported file, which has no gradients and no stages to look into; give the "
                'model that it was made of'
            )
    if sources[0].name == sources[1].name:
        raise ValueError(f"both models are called '{sources[0].name}'; name one with NAME=MODEL")


def check_report(folders: Sequence[Path], out: str | os.PathLike | None, say: Say = as_keyword) -> None:
    """Check the paths of a report.

    Args:
        folders: Folders with a ``results.json``.
        out: Folder of the report; None for the first of ``folders``.
        say: What a user knows the parameters by.

    Raises:
        FileNotFoundError: A folder does not exist, or holds no ``results.json``.
        OSError: The folder of the report cannot be written.
        ValueError: No folder is given.
    """
    if not folders:
        raise ValueError('no folder is given; give one that holds a ' + FILE_NAME)
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f'folder {folder} does not exist; give a folder that holds a {FILE_NAME}')
        if not (folder / FILE_NAME).is_file():
            raise FileNotFoundError(f'{folder} holds no {FILE_NAME}; tools/robustness.py writes one')
    check_can_write(out or folders[0], say('out'), is_folder=True)


def check_test(
    out: Path | None,
    show_dir: Path | None,
    show_interval: int,
    corruptions: Sequence[str],
    severities: Sequence[int],
    corruption_limit: int | None,
    corruption_seed: int,
    say: Say = as_keyword,
) -> None:
    """Check what a test is given.

    Args:
        out: File for scores or predictions.
        show_dir: Folder for pictures.
        show_interval: Draw every so many-th image.
        corruptions: Kinds, or names of groups of kinds.
        severities: Severities of each kind.
        corruption_limit: Images to test; None for all.
        corruption_seed: Seed of the corruptions.
        say: What a user knows the parameters by.

    Raises:
        OSError: A file or folder cannot be written.
        ValueError: A kind is unknown, a number is too small, or wishes contradict one another.
    """
    if out and out.suffix not in (SCORES, *PREDICTIONS):
        raise ValueError(f"{say('out')} '{out}' has no known ending; choose .json for scores or .pkl for predictions")
    check_can_write(out, say('out'))
    check_can_write(show_dir, say('show_dir'), is_folder=True)
    check_least(1, say, show_interval=show_interval, corruption_limit=corruption_limit)
    check_least(0, say, corruption_seed=corruption_seed)
    if corruptions:
        cells_of(choose_kinds(list(corruptions)), severities)
        if show_dir or (out and out.suffix != SCORES):
            raise ValueError(
                f'{say("corruptions")} writes scores only; drop {say("show_dir")}, and let {say("out")} end in .json'
            )
