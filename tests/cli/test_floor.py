"""Every command answers ``--help`` and a mistake in its arguments or paths at once: before torch is imported."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from distill.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
LIMIT_S = 0.5
HEAVY = {'torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmdet', 'mmseg'}
MISTAKES = {
    'benchmark': (['corruptions', '--data', 'nowhere', '--out', 'x.json'], "image folder 'nowhere' does not exist"),
    'browse_dataset': (['nowhere.py'], "config 'nowhere.py' does not exist"),
    'cache_teacher': (['nowhere.py', '--out', 'x'], "config 'nowhere.py' does not exist"),
    'demo': (['--work-dir', __file__], f"--work-dir '{__file__}' is a file; give a folder"),
    'configs': (['nowhere.py'], "config 'nowhere.py' does not exist"),
    'export': (['a.pth', '--out', 'x'], "checkpoint 'a.pth' does not exist"),
    'explain': (['a.pth', 'b.pth', '--images', '.', '--out', 'x'], "checkpoint 'a.pth' does not exist"),
    'get_flops': (['nowhere.py'], "config 'nowhere.py' does not exist"),
    'gpu_check': (['--out', 'x', '--parts', 'all'], "part 'all' is unknown; choose from distillation, contract"),
    'list_models': (['resnet50', '--markdown'], '--markdown lists all models; leave out resnet50'),
    'make_data': (['x', '--sets', 'cifar'], "set 'cifar' is unknown; choose from imagenet, coco, ade20k"),
    'predict': (['nowhere.jpg', '--model', 'a.pth', '--out', 'x'], "checkpoint 'a.pth' does not exist"),
    'print_config': (['nowhere.py'], "config 'nowhere.py' does not exist"),
    'probe': (['a.pth', '--data-root', '.', '--out', 'x'], "data root '.' has no folder 'train' to learn from"),
    'quantise': (['a.onnx', '--calibration', '.'], "artefact 'a.onnx' does not exist"),
    'report': (['nowhere'], 'folder nowhere does not exist'),
    'robustness': (['a.pth', '--data-root', '.', '--out', 'x'], "checkpoint 'a.pth' does not exist"),
    'save': (['a.pth', 'x'], "checkpoint 'a.pth' does not exist"),
    'test': (['nowhere.py', 'auto'], "config 'nowhere.py' does not exist"),
    'train': (['nowhere.py'], "config 'nowhere.py' does not exist"),
    'transfer_matrix': (['nowhere.py'], "matrix 'nowhere.py' does not exist"),
}
"""For each command arguments that hold a mistake, and the beginning of the message; by the file in tools/, if any."""
TOOLS = {
    'browse': 'browse_dataset',
    'cache': 'cache_teacher',
    'data': 'make_data',
    'flops': 'get_flops',
    'gpu-check': 'gpu_check',
    'models': 'list_models',
    'print-config': 'print_config',
    'transfer': 'transfer_matrix',
}
"""The file in tools/ of each subcommand that bears another name."""
CODE = f"""
import runpy, sys
del sys.argv[0]
try:
    if sys.argv[0].endswith('.py'):
        runpy.run_path(sys.argv[0], run_name='__main__')
    else:
        runpy.run_module('distill', run_name='__main__')
finally:
    print('loaded:', *sorted({HEAVY} & sys.modules.keys()))
"""


def answer(command: list[str]) -> tuple[subprocess.CompletedProcess, float]:
    """Run a command in a process of its own; returns what it answers, and the processor's seconds that it takes."""
    command = [sys.executable, '-c', CODE, *command]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize('kind', ['help', 'mistake'])
@pytest.mark.parametrize('command', [*COMMANDS, *sorted(path.name for path in (ROOT / 'tools').glob('*.py'))])
def test_the_answer_comes_at_once(command, kind):
    is_tool = command.endswith('.py')
    start = [str(ROOT / 'tools' / command)] if is_tool else ['-m distill', command]
    program = command if is_tool else f'robust-backbones {command}'
    mistake = MISTAKES[command.removesuffix('.py') if is_tool else TOOLS.get(command, command)]
    arguments, message = mistake if kind == 'mistake' else (['--help'], '')
    times_s = []
    while not times_s or (min(times_s) > LIMIT_S and len(times_s) < 3):  # A busy machine has more tries.
        done, time_s = answer([*start, *arguments])
        times_s.append(time_s)
    if kind == 'help':
        assert done.returncode == 0
        assert done.stdout.startswith(f'usage: {program} ')
    else:
        assert done.returncode == 1
        assert done.stderr.startswith(f'{program}: error: {message}')
        assert done.stderr.count('\n') == 1
    assert done.stdout.splitlines()[-1] == 'loaded:'
    assert min(times_s) <= LIMIT_S
