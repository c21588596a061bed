"""List the configs that come with this project, or copy one to edit.

robust-backbones configs
robust-backbones configs robust-resnet-dw-s_fpn
robust-backbones configs cascade-rcnn_r50_fpn_1x_coco --copy configs

A pattern is a name, a part of one, several parts with _ between them, or one of the shell's with * and ?. A copy holds
all that the config inherits, so that it can be edited, and mmdet's or mmseg's own tools train it as well.
"""

import argparse
import json
import sys
from pathlib import Path

from distill.base.caches import leave_home_alone
from distill.base.packaged import CONFIG, Packaged, find, matching, packaged
from distill.cli.arguments import check_can_write, find_config
from distill.cli.command import run_command

COMMANDS = {
    'python tools/make_data.py': 'robust-backbones data',
    'python tools/train.py': 'robust-backbones train',
    ' tools/train.py': ' -m distill train',
}
"""The commands in the headers of configs, and the same where there is no clone. The last is torchrun's."""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', metavar='PATTERN', help='which ones (default: all)')
    parser.add_argument('--copy', type=Path, metavar='DIR', help='write the one config, whole, to DIR/NAME.py')
    parser.add_argument('--paths', action='store_true', help='list the files too')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the list as JSON')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import.

    Raises:
        FileNotFoundError: No config fits.
        FileExistsError: The copy is there already.
        ValueError: Several configs fit, and one shall be copied.
    """
    check_can_write(args.json, '--json')
    if args.copy is None:
        if args.config and not matching(args.config):
            find(args.config)
        return
    if args.config is None:
        raise ValueError('--copy needs the name of a config; `robust-backbones configs` lists them')
    args.config = find_config(args.config)
    check_can_write(args.copy, '--copy', is_folder=True)
    target = copy_of(args)
    if target.exists():
        raise FileExistsError(f"'{target}' is there already; move it away, or give another --copy DIR")


def copy_of(args: argparse.Namespace) -> Path:
    """Where the copy goes."""
    return args.copy / f'{Path(args.config).stem}.py'


def run(args: argparse.Namespace) -> dict:
    """List, or copy; returns what ``--json`` writes, or the path of the copy."""
    check(args)
    if args.copy is not None:
        target = copy_of(args)
        write_copy(args.config, target)
        print(f'config: {target}')
        return {'copy': str(target)}
    files = matching(args.config) if args.config else packaged(CONFIG)
    print_list(files, args.paths or len(files) == 1)
    result = {file.name: {'task': file.task, 'headline': file.headline(), 'path': str(file.path)} for file in files}
    if args.json:
        from distill.base.files import write_text

        write_text(args.json, json.dumps(result, indent=1) + '\n')
    return result


def print_list(files: list[Packaged], paths: bool) -> None:
    """Print names and first lines, task by task.

    Args:
        files: What is listed.
        paths: Whether the paths are shown too.
    """
    for task in dict.fromkeys(file.task for file in files):
        group = [file for file in files if file.task == task]
        width = max(len(file.name) for file in group)
        print(f'{task}:')
        for file in group:
            print(f'  {file.name:{width}}  {file.headline()}')
            if paths:
                print(f'    {file.path}')


def write_copy(path: str, target: Path) -> None:
    """Write a config with all that it inherits, and without ``_base_``.

    Args:
        path: The config.
        target: The file to write, whose folder may be yet to be made.

    Raises:
        ValueError: The config cannot be read.
    """
    leave_home_alone()
    from distill.base.files import write_text
    from distill.training.experiment import read_file

    own = [file for file in packaged(CONFIG) if file.path == Path(path).resolve()]
    header = own[0].docstring() if own else f'"""All that {Path(path).name} says and inherits."""'
    for tool, command in COMMANDS.items():
        header = header.replace(tool, command)
    note = f'# A whole copy, made by `robust-backbones configs {Path(path).stem} --copy`: edit it as you like.'
    write_text(target, f'{header}\n{note}\n\n{read_file(path).pretty_text}')


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
