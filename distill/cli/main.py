# PYTHON_ARGCOMPLETE_OK
"""The console command ``robust-backbones``, also ``python -m distill``: one subcommand for each module of this package.

Only the module of the subcommand that was asked for is imported. ``tools/*.py`` are the same commands, one file each.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

PROG = 'robust-backbones'
LIBRARIES = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv-lite', 'mmdet', 'mmsegmentation', 'onedl-mmengine',
             'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation')  # fmt: skip
"""What ``--version`` tells too, as far as it is installed."""


class Command(NamedTuple):
    """A subcommand: its module in `distill.cli`, what it is listed under, and what it does."""

    module: str
    group: str
    summary: str


TRAIN, JUDGE, LOOK = 'train and distil', 'judge', 'data, models and configs'
COMMANDS = {
    'train': Command('train', TRAIN, 'train a student, a detector or a segmenter by a config'),
    'test': Command('test', TRAIN, 'test one, on clean and on corrupted images'),
    'cache': Command('cache', TRAIN, "write a teacher's predictions, so that training needs the teacher no more"),
    'transfer': Command(
        'transfer', TRAIN, 'train students with every teacher and alone, and tell what was transferred'
    ),
    'save': Command('save', TRAIN, 'save a model as timm and the Hugging Face hub expect it, with a model card'),
    'export': Command('export', TRAIN, 'write a model for other engines, each file verified there'),
    'quantise': Command(
        'quantise', TRAIN, 'quantise exported models to int8, calibrated on images, or to half precision'
    ),
    'demo': Command('demo', TRAIN, 'the whole chain on embedded data'),
    'robustness': Command('robustness', JUDGE, 'evaluate any models on clean, corrupted and shifted images'),
    'probe': Command('probe', JUDGE, 'judge frozen features by k-NN and linear classifiers on the same images'),
    'predict': Command('predict', JUDGE, 'show images to a classifier, a detector or a segmenter'),
    'explain': Command('explain', JUDGE, 'draw where two models look, and how alike they are inside'),
    'report': Command('report', JUDGE, 'make the HTML report of folders with a results.json'),
    'benchmark': Command('benchmark', JUDGE, "measure this project's speed against its peers'"),
    'gpu-check': Command('gpu_check', JUDGE, 'check on an accelerator what the tests check on the CPU, in minutes'),
    'data': Command('data', LOOK, 'write the embedded data sets'),
    'models': Command('models', LOOK, 'list the models, with cost and published accuracy'),
    'configs': Command('configs', LOOK, 'list the configs, or copy one to edit'),
    'print-config': Command('print_config', LOOK, 'print a config as it runs, with all that it inherits'),
    'flops': Command('flops', LOOK, "count the parameters and multiply-adds of a config's model"),
    'browse': Command('browse', LOOK, 'write pictures of what a config trains on'),
}


def usage() -> str:
    """The subcommands by group, each with what it does."""
    width = max(map(len, COMMANDS))
    lines = [f'usage: {PROG} COMMAND …', '']
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines.append(f'{group}:')
        lines += [f'  {name:{width}}  {c.summary}' for name, c in COMMANDS.items() if c.group == group]
        lines.append('')
    return '\n'.join([
        *lines,
        f'{PROG} COMMAND --help   the arguments of a command',
        f'{PROG} --version        this version, and those of the libraries',
        '',
        'TAB completes in a shell after: pip install argcomplete',
        f'                                eval "$(register-python-argcomplete {PROG})"',
    ])  # fmt: skip


def versions() -> str:
    """The version of this project, of Python and of the libraries that numbers depend on."""
    from importlib.metadata import PackageNotFoundError, version

    from distill import __version__

    found = [f'{PROG} {__version__}', f'Python {sys.version.split()[0]}']
    for name in LIBRARIES:
        try:
            found.append(f'{name} {version(name)}')
        except PackageNotFoundError:
            continue
    return ', '.join(found)


def unknown(name: str) -> str:
    """The error for a subcommand that does not exist."""
    close = difflib.get_close_matches(name, COMMANDS, n=2, cutoff=0.6)
    hint = f'did you mean {" or ".join(close)}?' if close else f'choose from {", ".join(COMMANDS)}'
    return f"{PROG}: error: command '{name}' is unknown; {hint}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns its exit status, or 2 where none was named that exists."""
    if '_ARGCOMPLETE' in os.environ:
        from distill.cli.completion import complete

        complete()
    name, *rest = list(sys.argv[1:] if argv is None else argv) or ['']
    if name in ('-h', '--help'):
        print(usage())
        return 0
    if name == '--version':
        print(versions())
        return 0
    if name not in COMMANDS:
        print(unknown(name) if name else usage(), file=sys.stderr)
        return 2
    before = sys.argv
    # argparse takes the program's name from here, and results.json the command line.
    sys.argv = [f'{PROG} {name}', *rest]
    try:
        return importlib.import_module(f'distill.cli.{COMMANDS[name].module}').main(rest)
    finally:
        sys.argv = before
