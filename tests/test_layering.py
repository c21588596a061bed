"""The import rules of the house, read off the source, and what importing does."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
OPENMMLAB = {'mmcv', 'mmdet', 'mmseg'}
MMENGINE = {'mmengine'}
STOREYS = (
    {'cli'},
    {'gpu_check'},
    {'api'},
    {'benchmarks', 'matrix', 'report', 'explain', 'export', 'predict'},
    {'downstream', 'training', 'robustness', 'synthetic'},
    {'teachers'},
    {'losses', 'data', 'engines'},
    {'results', 'base'},
)
"""The rooms of `distill`, from top to bottom. Imports go down."""
BESIDE = {
    ('benchmarks', 'export'),
    ('downstream', 'training'),
    ('downstream', 'robustness'),
    ('training', 'robustness'),
    ('results', 'base'),
}
"""Who may import whom on the same storey."""
WITHOUT_MMENGINE = {'base', 'results', 'engines', 'robustness', 'synthetic', 'report', 'explain', 'predict'}
NOT_ROOMS = {'configs', 'matrices'}
MEET_IN_FILES = ('robustness', 'synthetic', 'report')


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Dotted names that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            names.update(f'{node.module}.{alias.name}' for alias in node.names)
    return frozenset(names)


def sources(*folders: str) -> list[Path]:
    files = [path for folder in folders for path in sorted((REPO / folder).rglob('*.py'))]
    assert files, folders
    return files


def tops(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    return {name.split('.')[0] for name in imports(path)}


@functools.cache
def room_imports() -> dict[tuple[str, str], list[str]]:
    """The files by which one room of `distill` imports another."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sources(*(f'distill/{folder.name}' for folder in (REPO / 'distill').iterdir() if folder.is_dir())):
        room = path.relative_to(REPO / 'distill').parts[0]
        for name in imports(path):
            package, _, rest = name.partition('.')
            other = rest.partition('.')[0]
            if package == 'distill' and other not in (room, '__version__') and room not in NOT_ROOMS:
                found.setdefault((room, other), []).append(str(path.relative_to(REPO)))
    return found


def test_the_three_packages_import_downwards():
    for path in sources('backbones'):
        assert not tops(path) & {'distill', 'tools', 'downstream_configs'}, path
    for path in sources('distill'):
        assert 'tools' not in tops(path), path


def test_only_their_rooms_know_openmmlab():
    for path in sources('backbones'):
        room = path.relative_to(REPO / 'backbones').parts[0]
        forbidden = {'openmmlab': set(), 'mmcv_ops': MMENGINE | {'mmdet', 'mmseg', 'timm'}}.get(
            room, OPENMMLAB | MMENGINE
        )
        assert not tops(path) & forbidden, path
    for path in sources('distill'):
        room = path.relative_to(REPO / 'distill').parts[0]
        if room != 'downstream':
            assert not tops(path) & OPENMMLAB, path
            assert not [name for name in imports(path) if name.startswith('backbones.openmmlab')], path
        if room in WITHOUT_MMENGINE:
            assert not tops(path) & MMENGINE, path


def test_rooms_import_down_the_storeys():
    storey = {room: level for level, rooms in enumerate(STOREYS) for room in rooms}
    for (room, other), files in room_imports().items():
        assert storey[other] > storey[room] or (room, other) in BESIDE, f'{room} imports {other} in {files}'


def test_robustness_synthetic_and_report_meet_in_files_only():
    for room in MEET_IN_FILES:
        assert not [other for other in MEET_IN_FILES if (room, other) in room_imports()]


def test_nothing_but_rooms_lies_in_the_hall():
    found = sorted(path.name for path in (REPO / 'distill').iterdir() if path.is_file())
    assert found == ['__init__.py', '__main__.py']  # The latter is `python -m distill`.


def test_the_picture_of_the_rooms_is_the_imports():
    """The graph of docs/architecture.md has an arrow for each import that no chain of other imports implies."""
    text = (REPO / 'docs' / 'architecture.md').read_text()
    drawn = set(re.findall(r'^ *(\w+) --> (\w+)$', text, re.M))
    edges = set(room_imports())

    def reachable(room: str, seen: set[str]) -> set[str]:
        for a, b in edges:
            if a == room and b not in seen:
                seen.add(b)
                reachable(b, seen)
        return seen

    implied = {(a, c) for a, c in edges for x, b in edges if x == a and b != c and c in reachable(b, set())}
    assert drawn == edges - implied


def test_the_steps_of_the_reader_are_files_in_at_most_ten_steps():
    text = (REPO / 'docs' / 'architecture.md').read_text()
    journeys = text.partition('## Where things live')[2].partition('## Rules')[0].split('\n**')[1:]
    assert len(journeys) == 8
    for journey in journeys:
        assert len(re.findall(r'^\d+\. ', journey, re.M)) <= 10
        paths = re.findall(r'`((?:backbones|distill|downstream_configs)/[\w/]+(?:\.py)?)`', journey)
        assert len(paths) > 2
        assert [path for path in paths if not (REPO / path).exists()] == []


def test_configs_inherit_from_this_project_only():
    for path in sources('downstream_configs', 'distill/configs'):
        assert 'mmdet::' not in path.read_text(), path
        assert 'mmseg::' not in path.read_text(), path


def test_a_file_is_read_in_one_sitting():
    files = sources('backbones', 'distill', 'tools', 'tests', 'downstream_configs')
    assert {path for path in files if len(path.read_text().splitlines()) > 450} == set()


@pytest.mark.parametrize(
    'module',
    [
        'backbones',
        'backbones.openmmlab',
        'distill',
        'distill.base.images',
        'distill.downstream.register',
        'distill.explain',
        'distill.report',
        'distill.results.schema',
        'distill.robustness.evaluate',
        'distill.synthetic',
        'distill.training.register',
        'distill.matrix',
    ],
)
def test_importing_is_silent(module):
    command = [sys.executable, '-W', 'error::UserWarning', '-c', f'import {module}']
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_backbones_alone_need_torch_and_timm_only():
    code = f'import sys, backbones; sys.exit(any(m in sys.modules for m in {sorted(OPENMMLAB | MMENGINE)}))'
    assert subprocess.run([sys.executable, '-c', code], cwd=REPO).returncode == 0
