"""Arguments that several commands share, and checks of arguments and paths that need no heavy import."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.api.checks import LAUNCHERS, as_option, check_launcher
from distill.base.extras import TRACKERS
from distill.base.packaged import CONFIG, ENDINGS, find
from distill.base.paths import check_can_write as check_can_write
from distill.base.paths import check_ending as check_ending
from distill.base.paths import check_is_data
from distill.base.paths import check_is_file as check_is_file
from distill.base.paths import check_is_folder as check_is_folder
from distill.cli.cfg_options import CfgOptions

if TYPE_CHECKING:
    from distill.training.experiment import Experiment


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add OpenMMLab's arguments and ``--data-root``, of which `experiment_of` makes what is run."""
    parser.add_argument('config', help='config file, or a name of `robust-backbones configs`; a unique part suffices')
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/<config name>)')
    parser.add_argument('--data-root', help="the data set's folder, in place of the config's data_root; "
                        'of images without labels also a tar file or a list')  # fmt: skip
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        metavar='KEY=VALUE',
        help='settings in place of the config',
    )
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='how processes were started')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_source_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--source``, of which `data_root_of` makes the data root of a call."""
    parser.add_argument(
        '--source',
        nargs='+',
        action='append',
        metavar=('PATH', 'WEIGHT'),
        help='one of several sets of images without labels, in place of --data-root, and its share of each epoch',
    )


def data_root_of(args: argparse.Namespace) -> str | list[str] | dict[str, float] | None:
    """The data root of a call: that of ``--data-root``, or the sets of ``--source`` with their weights.

    Raises:
        FileNotFoundError: There is no such set.
        ValueError: Both are given, a set has more than a path and a weight, only some have a weight, or a path comes
            twice.
    """
    sources = args.source
    if not sources:
        return args.data_root
    if args.data_root:
        raise ValueError(f"--data-root '{args.data_root}' and --source exclude each other; name it as a --source too")
    if wrong := next((one for one in sources if len(one) > 2), None):
        raise ValueError(
            f'--source {" ".join(wrong)} is more than a path and a weight; write --source once for each set'
        )
    paths = [one[0] for one in sources]
    for path in paths:
        check_is_data(path, 'make or unpack the data there, or pass another --source')
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise ValueError(f"--source '{twice}' comes twice; give it once, with the sum of the weights")
    weights = [one[1] for one in sources if len(one) == 2]
    if not weights:
        return paths
    if len(weights) < len(paths):
        lacking = next(one[0] for one in sources if len(one) == 1)
        raise ValueError(f"--source '{lacking}' has no weight and another has one; give all a weight, or none")
    try:
        return dict(zip(paths, map(float, weights), strict=True))
    except ValueError:
        raise ValueError(f'--source has the weights {", ".join(weights)}; give a number for each') from None


def check_config_arguments(args: argparse.Namespace, runs: bool = True) -> None:
    """Check what `add_config_arguments` has added, and put the path of a config in place of its name.

    Args:
        args: Parsed arguments.
        runs: Whether the config is run, which needs the data, a work directory and a launcher, or only read.

    Raises:
        FileNotFoundError: The config or the data root does not exist.
        OSError: The work directory cannot be written.
        ValueError: Several configs fit the name, the config's format is unknown, or the launcher has not started this
            process.
    """
    args.config = find_config(args.config)
    check_ending(args.config, 'config', ENDINGS)
    if runs:
        if args.data_root:
            check_is_data(args.data_root, 'make or unpack the data there, or pass another --data-root')
        check_can_write(args.work_dir, '--work-dir', is_folder=True)
        check_launcher(args.launcher, as_option)
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))


def experiment_of(args: argparse.Namespace) -> 'Experiment':
    """The config and what is set beside it, of the arguments that `add_config_arguments` has added."""
    from distill.training.experiment import Experiment

    return Experiment(args.config, args.data_root, args.work_dir, args.cfg_options or {}, args.launcher)


def find_config(text: str) -> str:
    """The path of a config that is given by its path or a name; a line on stderr tells which one a part has chosen.

    Args:
        text: What the user has given.

    Raises:
        FileNotFoundError: There is no such file, and no such name.
        ValueError: Several names fit.
    """
    path = find(text, CONFIG)
    if Path(path).stem.lower() != Path(text).stem.lower():
        print(f'config: {Path(path).stem}', file=sys.stderr)
    return path


def add_tracker_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--track``, which `distill.api.checks.check_trackers` checks."""
    parser.add_argument(
        '--track', nargs='+', choices=TRACKERS, default=[], metavar='TRACKER', help=f'log to {", ".join(TRACKERS)} too'
    )


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``; `distill.base.processes.cuda_or_cpu` is its default."""
    parser.add_argument('--device', help='device of torch (default: cuda if there is one, otherwise cpu)')


def add_model_arguments(parser: argparse.ArgumentParser, input_size: bool = True) -> None:
    """Add what can be said of models beside their names; `model_arguments` makes keywords of `backbones.load` of it.

    Args:
        parser: The command's.
        input_size: Whether to add ``--input-size``, too.
    """
    group = parser.add_argument_group('of the models', 'what is known of them need not be said; see docs/models_in.md')
    group.add_argument('--model-name', metavar='NAME', help="timm's name of the model of a file; NAME@FILE says it too")
    group.add_argument('--num-classes', type=int, metavar='N', help='classes of the model')
    group.add_argument('--mean', type=float, nargs='+', metavar='X', help='mean of each channel, of values in [0, 1]')
    group.add_argument('--std', type=float, nargs='+', metavar='X', help='standard deviation, likewise')
    group.add_argument('--crop-pct', type=float, metavar='X', help="share of the resized image's side that is shown")
    if input_size:
        group.add_argument('--input-size', type=int, metavar='PX', help="side of the images, not the model's own")
    group.add_argument('--class-names', metavar='FILE', help='names of the classes in the order of the logits: a line '
                       'each, or a JSON list')  # fmt: skip


def model_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Check what `add_model_arguments` has added, and make keyword arguments of `backbones.load` of it.

    Raises:
        FileNotFoundError: The file of class names does not exist.
        ValueError: A value is out of range, or the file is none of class names.
    """
    check_at_least(args, 1, 'num_classes', 'input_size')
    for name in ('mean', 'std'):
        values = getattr(args, name)
        if values is not None and not all(0 <= value <= 1 for value in values):
            raise ValueError(f'--{name} is {" ".join(map(str, values))}; give numbers for pixels from 0 to 1')
    given = {
        'model': args.model_name,
        'num_classes': args.num_classes,
        'mean': args.mean,
        'std': args.std,
        'crop_pct': args.crop_pct,
        'input_size': args.input_size,
        'classes': read_class_names(args.class_names) if args.class_names is not None else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def read_class_names(path: str | os.PathLike) -> list[str]:
    """Read the names of classes: a line each, or a JSON list, or a JSON object with a name for each index.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds no text, or no such names, or a name twice.
    """
    check_is_file(path, 'file of class names', 'write one with a name a line')
    try:
        text = Path(path).read_text(encoding='utf-8-sig')
        content = json.loads(text) if text.lstrip().startswith(('[', '{')) else text.splitlines()
    except ValueError as error:
        raise ValueError(f"file of class names '{path}' is no text or JSON ({error}); write a name a line") from None
    if isinstance(content, dict):
        content = [content.get(str(index)) for index in range(len(content))]
    if not all(isinstance(name, str) for name in content):
        raise ValueError(f"file of class names '{path}' holds other things than names; write a name a line")
    names = [name.strip() for name in content]
    while names and not names[-1]:
        names.pop()
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice or not names or '' in names:
        problem = f"has '{twice[0]}' twice" if twice else 'has an empty line' if names else 'is empty'
        raise ValueError(f"file of class names '{path}' {problem}; write a name for each class, a line each")
    return names


def check_at_least(args: argparse.Namespace, least: int, *names: str) -> None:
    """Check that options are not below a number; None stands for an option that was not given.

    Args:
        args: Parsed arguments.
        least: The least that is allowed.
        names: Attributes of ``args``.

    Raises:
        ValueError: An option is below.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f'--{name.replace("_", "-")} is {value}; give {least} or more')
