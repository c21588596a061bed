"""Mistakes in arguments and paths are found by each command's ``check``, before anything heavy is imported."""

import argparse
import importlib
import os
from pathlib import Path

import pytest

from distill.api.checks import LAUNCHERS, as_option, check_launcher
from distill.cli.arguments import add_model_arguments, check_at_least, check_can_write, model_arguments

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / 'distill' / 'configs' / 'shapes' / 'robust-resnet-tiny_shapes.py')
MATRIX = str(ROOT / 'distill' / 'matrices' / 'shapes.py')
ROBUSTNESS = ['resnet18', '--data-root', str(ROOT), '--out', 'out']
EXPLAIN = ['resnet18', 'resnet50', '--images', str(ROOT), '--out', 'out']


@pytest.mark.parametrize(
    ('command', 'message'),
    [
        (['train', __file__ + '.txt'], "config '.*txt' does not exist"),
        (['train', str(ROOT / 'README.md')], r"config '.*' has no known ending; choose \.py, \.json, \.yaml, \.yml"),
        (['train', CONFIG, '--data-root', 'nowhere'], "data root 'nowhere' does not exist; make or unpack"),
        (['train', CONFIG, '--work-dir', __file__], "--work-dir '.*' is a file; give a folder"),
        (['train', CONFIG, '--launcher', 'pytorch'], '--launcher pytorch finds no RANK .* by torchrun'),
        (['train', CONFIG, '--resume', 'a.pth'], "checkpoint 'a.pth' does not exist; pass another or --resume alone"),
        (['train', CONFIG, '--shifts', '0'], '--shifts is 0; give 1 or more'),
        (['test', CONFIG, 'a.pth'], "checkpoint 'a.pth' does not exist; train first or name another"),
        (['test', CONFIG, 'auto', '--work-dir', str(ROOT / 'docs')], "docs' has no checkpoint; train first"),
        (['test', CONFIG, 'auto', '--out', 'a.txt'], "--out 'a.txt' has no known ending; choose .json for scores"),
        (['test', CONFIG, 'auto', '--corruptions', 'fogg'], "corruption 'fogg' is unknown; .*; or the groups bench"),
        (['test', CONFIG, 'auto', '--corruptions', 'fog', '--severities', '6'], 'severity 6 is unknown; choose from'),
        (['test', CONFIG, 'auto', '--corruptions', 'fog', '--out', 'a.pkl'], '--corruptions writes scores only'),
        (['test', CONFIG, 'auto', '--show-interval', '0'], '--show-interval is 0; give 1 or more'),
        (['browse', CONFIG, '--number', '0'], '--number is 0; give 1 or more'),
        (['browse', CONFIG, '--output-dir', __file__], "--output-dir '.*' is a file"),
        (['cache', CONFIG, '--out', 'out', '--topk', '0'], '--topk is 0; give 1 or more'),
        (['cache', CONFIG, '--out', __file__], "--out '.*' is a file; give a folder"),
        (['flops', CONFIG, '--shape', '16'], '--shape 16 is no size; give height and width of at least 32 pixels'),
        (['flops', CONFIG, '--shape', '64', '64', '3'], '--shape 64 64 3 is no size'),
        (['flops', CONFIG, '--out', str(ROOT)], "--out '.*' is a folder; give a file"),
        (['print_config', CONFIG, '--out', 'a.txt'], r"--out 'a.txt' has no known ending; choose \.py, \.json"),
        (['robustness', 'resnet18', '--out', 'out'], 'nothing to evaluate on; pass --data-root, or --images'),
        (['robustness', *ROBUSTNESS, '--data-root', 'nowhere'], "data root 'nowhere' does not exist"),
        (['robustness', *ROBUSTNESS, '--suite', 'v3'], "suite 'v3' is unknown; choose from clean, v2, "),
        (['robustness', *ROBUSTNESS, '--suite', 'sketch'], "suite 'sketch' needs the folder '.*sketch'; make it"),
        (['robustness', *ROBUSTNESS, '--images', 'nowhere'], "image folder 'nowhere' does not exist; correct the path"),
        (['robustness', 'a=x/student_best.pth', *ROBUSTNESS], "checkpoint 'x/student_best.pth' does not exist"),
        (['robustness', 'net.onnx', *ROBUSTNESS], "model 'net.onnx' does not exist; export it first"),
        (['robustness', 'a=resnet18', 'a=resnet50', *ROBUSTNESS[1:]], r'two runs are called the same \(a, a\)'),
        (['robustness', *ROBUSTNESS, '--batch-size', '0'], '--batch-size is 0; give 1 or more'),
        (['explain', *EXPLAIN, '--images', 'nowhere'], "image folder 'nowhere' does not exist; give a folder"),
        (['explain', 'a=resnet18', 'a=resnet50', *EXPLAIN[2:]], "both models are called 'a'; name one with NAME=MODEL"),
        (['explain', *EXPLAIN, '--shown', '0'], '--shown is 0; give 1 or more'),
        (['export', 'resnet18', '--out', 'x', '--batch', '0'], '--batch is 0; give 1 or more'),
        (['export', 'resnet18', '--out', 'x', '--tolerance', '0'], '--tolerance is 0.0; give a number above 0'),
        (['export', 'resnet18', '--out', 'x', '--images', 'nowhere'], "image folder 'nowhere' does not exist"),
        (['export', 'resnet18', '--out', 'x', '--keep', '3'], '--keep and --accuracy-drop are of int8; add --int8'),
        (['export', 'a.onnx', '--out', 'x'], "model 'a.onnx' does not exist; export it first"),
        (['explain', 'a.onnx', 'resnet18', '--images', '.', '--out', 'x'], "model 'a.onnx' does not exist"),
        (['report', str(ROOT / 'docs')], 'docs holds no results.json; tools/robustness.py writes one'),
        (['models', '--json', str(ROOT)], "--json '.*' is a folder; give a file"),
        (['transfer', MATRIX, '--data-root', 'nowhere'], "data root 'nowhere' does not exist; make the data"),
        (['transfer', MATRIX, '--jobs', '0'], '--jobs is 0; give 1 or more'),
        (['transfer', MATRIX, '--launcher', "srun 'x"], 'is no command .No closing quotation.; quote it once'),
        (['demo', '--threads', '0'], '--threads is 0; give 1 or more'),
        (['benchmark', 'suite', '--out', 'a.json', '--images', '0'], '--images is 0; give 1 or more'),
        (['benchmark', 'distill', '--out', str(ROOT)], "--out '.*' is a folder; give a file"),
        (['data', __file__], "OUT '.*' is a file; give a folder"),
    ],
    ids=lambda value: ' '.join(value).replace(str(ROOT), 'ROOT') if isinstance(value, list) else '',
)  # fmt: skip
def test_check_finds_the_mistake(command, message, monkeypatch):
    for launcher in filter(None, LAUNCHERS.values()):
        monkeypatch.delenv(launcher[0], raising=False)
    module = importlib.import_module(f'distill.cli.{command[0]}')
    with pytest.raises((ValueError, OSError), match=message):
        module.check(module.build_parser().parse_args(command[1:]))


@pytest.mark.parametrize(
    'command',
    [
        ['train', CONFIG, '--resume', '--cfg-options', 'a=1', '--local-rank', '3'],
        ['test', CONFIG, __file__, '--out', 'new/folder/scores.json', '--corruptions', 'noise', 'fog'],
        ['browse', CONFIG],
        ['cache', CONFIG, '--out', 'out'],
        ['flops', CONFIG, '--shape', '64', '--data-root', 'nowhere'],
        ['robustness', *ROBUSTNESS],
        ['explain', *EXPLAIN],
        ['models'],
        ['benchmark', 'corruptions', '--out', 'new/folder/x.json'],
    ],
    ids=lambda command: command[0],
)
def test_a_command_that_computes_prepares_torch_once_its_arguments_are_checked(command, monkeypatch, capsys):
    def stop():
        raise ValueError('prepared')

    monkeypatch.setattr('distill.base.memory.keep_freed_memory', stop)
    assert importlib.import_module(f'distill.cli.{command[0]}').main(command[1:]) == 1
    assert capsys.readouterr().err.endswith('error: prepared\n')


def test_a_number_is_named_with_the_least_that_is_allowed():
    args = argparse.Namespace(batch_size=0, views=None)
    check_at_least(args, 0, 'batch_size', 'views')
    with pytest.raises(ValueError, match='--batch-size is 0; give 1 or more'):
        check_at_least(args, 1, 'views', 'batch_size')


def test_folders_that_are_not_there_yet_can_be_written_unless_a_file_is_in_the_way(tmp_path, monkeypatch):
    (file := tmp_path / 'file').touch()
    for path in (None, tmp_path, tmp_path / 'new' / 'folder'):
        check_can_write(path, '--out', is_folder=True)
    for path in (file, tmp_path / 'new' / 'a.json'):
        check_can_write(path, '--out')
    with pytest.raises(ValueError, match=r"--out '.*file' is a file; give a folder"):
        check_can_write(file, '--out', is_folder=True)
    with pytest.raises(ValueError, match=r"--out '.*' is a folder; give a file"):
        check_can_write(tmp_path, '--out')
    for is_folder in (False, True):
        with pytest.raises(NotADirectoryError, match=r"cannot be made, since '.*file' is a file; choose another"):
            check_can_write(file / 'new' / 'x', '--out', is_folder)
    # Root may write everywhere, so that permissions cannot be taken away for real.
    monkeypatch.setattr(os, 'access', lambda folder, mode: Path(folder) != tmp_path)
    with pytest.raises(PermissionError, match=f"cannot be written, since '{tmp_path}' is protected"):
        check_can_write(tmp_path / 'new' / 'x', '--out')


@pytest.mark.parametrize(('launcher', 'variable'), [('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID')])
def test_a_launcher_has_left_its_mark(launcher, variable, monkeypatch):
    check_launcher('none')
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ValueError, match=f'--launcher {launcher} finds no {variable} in the environment'):
        check_launcher(launcher, as_option)
    monkeypatch.setenv(variable, '0')
    check_launcher(launcher)


def test_what_is_said_of_models_becomes_keywords(tmp_path):
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    names = tmp_path / 'names.txt'
    for text in ('a cat\nb\n\n', '["a cat", "b"]', '{"1": "b", "0": "a cat"}'):
        names.write_text(text)
        args = parser.parse_args(['--mean', '0.5', '0.4', '0.3', '--num-classes', '2', '--class-names', str(names)])
        expected = {'mean': [0.5, 0.4, 0.3], 'num_classes': 2, 'classes': ['a cat', 'b']}
        assert model_arguments(args) == expected
    assert model_arguments(parser.parse_args([])) == {}
    for text, message in (
        ('', 'is empty'),
        ('a\n\nb', 'an empty line'),
        ('a\na', "'a' twice"),
        ('[1]', 'other things'),
    ):
        names.write_text(text)
        with pytest.raises(ValueError, match=message):
            model_arguments(parser.parse_args(['--class-names', str(names)]))
    with pytest.raises(ValueError, match=r'--mean is 123\.0 116\.0 103\.0; give numbers for pixels from 0 to 1'):
        model_arguments(parser.parse_args(['--mean', '123', '116', '103']))
    with pytest.raises(FileNotFoundError, match='write one with a name a line'):
        model_arguments(parser.parse_args(['--class-names', 'gone.txt']))
