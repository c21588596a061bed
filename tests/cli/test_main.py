"""The console command: its subcommands, its mistakes, and what TAB completes."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill import __version__
from distill.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]


def test_help_and_version_are_answered_without_a_command(capsys):
    assert main(['--help']) == 0
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f'  {name} ' in shown
        assert command.summary in shown
    assert main(['--version']) == 0
    assert capsys.readouterr().out.startswith(
        f'robust-backbones {__version__}, Python {sys.version.split()[0]}, torch '
    )
    assert main([]) == 2
    assert capsys.readouterr().err == shown


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('trian', 'did you mean train'),
        ('config', 'did you mean configs'),
        ('--cfg-options', 'choose from train, test'),
        ('42', 'choose from train'),
    ],
)
def test_an_unknown_command_is_one_line_with_a_way_out(name, hint, capsys):
    assert main([name, '--help']) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"robust-backbones: error: command '{name}' is unknown; {hint}")
    assert error.count('\n') == 1


def test_every_tool_is_a_command_and_every_command_a_module_with_a_parser():
    modules = {command.module for command in COMMANDS.values()}
    for path in (ROOT / 'tools').glob('*.py'):
        assert path.read_text().split()[1].removeprefix('distill.cli.') in modules, path
    for module in modules:
        assert callable(importlib.import_module(f'distill.cli.{module}').build_parser)


def test_results_tell_the_command_as_it_was_typed(monkeypatch):
    from distill.cli import configs
    from distill.results.provenance import command_line

    seen = []
    monkeypatch.setattr(configs, 'main', lambda argv: seen.append(command_line()) or 0)
    before = sys.argv
    assert main(['configs', 'a b', '--paths']) == 0
    assert seen == ["robust-backbones configs 'a b' --paths"]
    assert sys.argv is before
    monkeypatch.setattr(sys, 'argv', ['tools/report.py', 'x'])
    assert command_line() == 'python tools/report.py x'


@pytest.mark.parametrize(
    ('line', 'completions'),
    [
        ('robust-backbones tr', {'train', 'transfer'}),
        ('robust-backbones train deit-mini_s', {'deit-mini_shapes'}),
        ('robust-backbones test --show-', {'--show-dir', '--show-interval'}),
        ('robust-backbones benchmark c', {'corruptions'}),
    ],
)
def test_tab_completes_commands_options_and_configs(line, completions, tmp_path):
    pytest.importorskip('argcomplete')
    out = tmp_path / 'completions'
    environment = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
        '_ARGCOMPLETE': '1',
        '_ARGCOMPLETE_STDOUT_FILENAME': str(out),
        '_ARGCOMPLETE_IFS': '\n',
        'COMP_LINE': line,
        'COMP_POINT': str(len(line)),
    }
    subprocess.run([sys.executable, '-m', 'distill'], env=environment, cwd=tmp_path, check=True)
    assert {word.strip() for word in out.read_text().split('\n')} == completions
