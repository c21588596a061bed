"""Run the command lines of a page on small data, each in a process of its own."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from glob import glob
from pathlib import Path

import processes
from pages import REPO, Block

from distill.base.packaged import CONFIG, MATRIX, find
from distill.cli.main import COMMANDS

TOOLS = {path.name: path.read_text().split()[1].removeprefix('distill.cli.') for path in (REPO / 'tools').glob('*.py')}
"""The module of `distill.cli` that each of tools/*.py calls."""
LOADERS = [
    f'{part}_dataloader.{option}'
    for part in ('train', 'val')
    for option in ('num_workers=0', 'persistent_workers=False')
]
LENGTHS = {
    'distillation': ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'train_dataloader.batch_size=20'],
    'mmdet': [
        'train_cfg.max_epochs=1',
        'train_cfg.val_interval=2',
        'train_dataloader.batch_size=4',
        'train_dataloader.dataset.indices=4',
        'default_hooks.checkpoint.interval=1',
    ],
    'mmseg': ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=4'],
}
SHORTER = {
    'data': '--train 80 --val 40 --shifted 20 --scene-size 64 --scenes-train 8 --scenes-val 4'.split(),  # noqa: SIM905
    'robustness': ['--corruption-limit', '4', '--workers', '0'],
    'predict': ['--workers', '0'],
    'explain': ['--count', '8', '--shown', '2', '--workers', '0'],
    'flops': ['--shape', '96'],
    'test': ['--severities', '3', '--corruption-limit', '2'],
}
"""The one place where command lines of the pages are made shorter: options that each command gets at its end. Commands
that train get those of `LENGTHS` as ``--cfg-options``."""
LAUNCHERS = ('torchrun', 'srun', 'sbatch', 'python', 'python3')


def project_command(words: Sequence[str]) -> tuple[str, list[str], dict[str, str]] | None:
    """The module of `distill.cli` that a command line calls, its arguments, and the variables that it sets.

    Args:
        words: The command line, from variables and launchers on.

    Returns:
        None if the line calls no command of this project.
    """
    words = list(words)
    environment = {}
    while words and re.fullmatch(r'\w+=.*', words[0]):
        name, _, value = words.pop(0).partition('=')
        environment[name] = value
    if not words:
        return None
    if words[0] in LAUNCHERS:
        tools = [i for i, word in enumerate(words) if word.startswith('tools/')]
        if tools:
            return TOOLS[words[tools[0]].removeprefix('tools/')], words[tools[0] + 1 :], environment
        if 'distill' not in words:
            return None
        words = words[words.index('distill') :]
    elif words[0] != 'robust-backbones':
        return None
    if len(words) < 2 or words[1] not in COMMANDS:
        return 'main', words[1:], environment
    return COMMANDS[words[1]].module, words[2:], environment


def shortened(module: str, arguments: Sequence[str]) -> list[str]:
    """The arguments of a command with those that make it take seconds."""
    if module in ('train', 'cache', 'test'):
        from distill.training.experiment import read_file

        config = read_file(find(arguments[0], CONFIG))
        length = LENGTHS.get(config.get('default_scope'), LENGTHS['distillation'])
        options = [*LOADERS, *length, 'visualizer.vis_backends=[]', *smaller_images(config)]
        return [*arguments, *SHORTER.get(module, ()), '--cfg-options', *options]
    return [*arguments, *SHORTER.get(module, ())]


def smaller_images(config) -> list[str]:
    """Settings by which pipelines resize images to 96 pixels."""
    return [
        f'{part}_dataloader.dataset.pipeline.{place}.scale=(96,96)'
        for part in ('train', 'val', 'test')
        for place, step in enumerate(config[f'{part}_dataloader'].dataset.get('pipeline', ()))
        if step['type'] == 'Resize' and max(step['scale']) > 128
    ]


def run_block(block: Block) -> None:
    """Run the command lines of a block in the current folder.

    Raises:
        AssertionError: One fails, or one that shall fail does not.
    """
    for words in block.command_lines():
        command = project_command(words)
        if command is None:
            # `python` of a page is the one that runs the tests.
            path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
            command_line, env = ['bash', '-ec', shlex.join(words)], {**os.environ, 'PATH': path}
            ran = subprocess.run(command_line, capture_output=True, text=True, timeout=60, env=env)
            assert ran.returncode == 0, f'{block}: {shlex.join(words)}\n{ran.stdout}{ran.stderr}'
            continue
        module, arguments, environment = command
        status, output = processes.start(module, shortened(module, expanded(arguments)), environment).finish()
        if block.mark == 'fails':
            assert status == 1, f'{block}: {shlex.join(words)} did not fail\n{output}'
            assert 'Traceback' not in output, f'{block}: {output}'
        else:
            assert status == 0, f'{block}: {shlex.join(words)}\n{output[-3000:]}'


def expanded(arguments: Sequence[str]) -> list[str]:
    """Arguments with * replaced by the files that fit, as a shell does."""
    return [path for word in arguments for path in (sorted(glob(word)) if '*' in word else None) or [word]]


def read_block(block: Block) -> None:
    """Check what can be checked of a block that is not run: options, names of configs and their settings.

    Raises:
        AssertionError: A command line of this project would be refused.
    """
    for words in block.command_lines():
        command = project_command(words)
        if command is None or command[0] == 'main':
            continue
        module, arguments, _ = command
        parser = importlib.import_module(f'distill.cli.{module}').build_parser()
        try:
            args = parser.parse_args(arguments)
        except SystemExit:
            raise AssertionError(f'{block}: {shlex.join(words)} has arguments that do not exist') from None
        for name, kind in (('config', CONFIG), ('matrix', MATRIX)):
            value = getattr(args, name, None)
            if value and value != 'CONFIG' and not value.startswith('mine/'):
                # Paths of configs are those of a clone.
                path = find(str(REPO / value) if (REPO / value).exists() else value, kind)
                check_settings(path, getattr(args, 'cfg_options', None))


def check_settings(path: str | Path, options: dict | None) -> None:
    """Check that a config has the sections that ``--cfg-options`` set.

    Raises:
        ValueError: It has not.
    """
    if options:
        from distill.training.experiment import read_file
        from distill.training.options import set_options

        set_options(read_file(str(path)), options)
