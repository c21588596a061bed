"""The import rules of the house, read off the source, and what importing does."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
OPENMMLAB = {'mmcv', 'mmdet', 'mmseg'}
MMENGINE = {'mmengine'}
TASKS = ('robustness', 'synthetic', 'report')


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            names.update(f'{node.module}.{alias.name}' for alias in node.names)
    return names


def sources(*folders: str) -> list[Path]:
    files = [path for folder in folders for path in sorted((REPO / folder).rglob('*.py'))]
    assert files
    return files


def test_imports_go_one_way():
    for path in sources('backbones'):
        tops = {name.split('.')[0] for name in imports(path)}
        assert not tops & {'distill', 'tools'}, path
        if 'openmmlab' not in path.parts:
            assert not tops & (OPENMMLAB | MMENGINE), path
    for path in sources('distill'):
        names = imports(path)
        assert not {name.split('.')[0] for name in names} & {'mmdet', 'mmseg', 'tools'}, path
        assert not [name for name in names if name.startswith('backbones.openmmlab')], path
        assert not [name for name in names if name.startswith('mmcv') and not name.startswith('mmcv.transforms')], path


def test_robustness_synthetic_and_report_meet_in_files_only():
    for task in TASKS:
        for path in sources(f'distill/{task}'):
            for other in set(TASKS) - {task}:
                assert not [name for name in imports(path) if name.startswith(f'distill.{other}')], path


def test_configs_inherit_from_this_project_only():
    for path in sources('downstream_configs', 'distill/configs'):
        assert 'mmdet::' not in path.read_text(), path
        assert 'mmseg::' not in path.read_text(), path


@pytest.mark.parametrize(
    'module',
    [
        'backbones',
        'backbones.openmmlab',
        'distill',
        'distill.explain',
        'distill.report',
        'distill.synthetic',
        'distill.transfer',
    ],
)
def test_importing_is_silent(module):
    command = [sys.executable, '-W', 'error::UserWarning', '-c', f'import {module}']
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_backbones_alone_need_torch_and_timm_only():
    code = f'import sys, backbones; sys.exit(any(m in sys.modules for m in {sorted(OPENMMLAB | MMENGINE)}))'
    assert subprocess.run([sys.executable, '-c', code], cwd=REPO).returncode == 0
