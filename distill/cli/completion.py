"""What TAB completes: subcommands, their options, and the names of configs, by argcomplete.

argcomplete runs the command with ``_ARGCOMPLETE`` in its environment and the line so far in ``COMP_LINE``.
"""

import argparse
import importlib
import os

from distill.base.packaged import CONFIG, packaged
from distill.cli.main import COMMANDS, PROG


def build_parser(line: str) -> argparse.ArgumentParser:
    """A parser of all subcommands, with the arguments of the one that stands on a line.

    Args:
        line: What the user has typed.
    """
    parser = argparse.ArgumentParser(prog=PROG)
    subcommands = parser.add_subparsers()
    named = (line.split()[1:] or [''])[0]
    for name, command in COMMANDS.items():
        own = []
        if name == named:
            own = [importlib.import_module(f'distill.cli.{command.module}').build_parser()]
            for action in own[0]._actions:
                if action.dest == 'config':
                    action.completer = complete_config
        subcommands.add_parser(name, parents=own, add_help=not own, help=command.summary)
    return parser


def complete_config(prefix: str, **_) -> list[str]:
    """The names of this project's configs, and the files and folders that begin like ``prefix``."""
    from argcomplete.completers import FilesCompleter

    names = [file.name for file in packaged(CONFIG) if file.name.startswith(prefix)]
    return [*names, *FilesCompleter(('py', 'json', 'yaml', 'yml'))(prefix)]


def complete() -> None:
    """Print what completes the line, and exit; where argcomplete is missing, do nothing."""
    try:
        import argcomplete
    except ModuleNotFoundError:
        return
    argcomplete.autocomplete(build_parser(os.environ.get('COMP_LINE', '')), always_complete_options='long')
