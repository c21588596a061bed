"""The table of docs/operators.md, the stand-ins, and what mmdet and mmsegmentation use: the three agree."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip('mmcv')

from backbones.mmcv_ops.extension import OPS

TABLE = Path(__file__).parents[2] / 'docs' / 'operators.md'
STAND_INS = {op.__name__: op for op in OPS}
UNUSED = {'nms_quadri'}
"""Functions that stand in a file of ``mmcv.ops`` beside others that are used; no model calls them."""


def rows(section: str) -> list[list[str]]:
    """The rows of a section's table, cell by cell."""
    text = TABLE.read_text(encoding='utf-8').split(f'## {section}\n')[1].split('\n## ')[0]
    lines = [line for line in text.splitlines() if line.startswith('|')]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:]]


def code(cell: str) -> list[str]:
    return re.findall(r'`([^`]+)`', cell)


def test_every_stand_in_is_in_the_table_and_where_it_says():
    written = {}
    for _, functions, place, *_ in rows('Operators with a stand-in'):
        written.update(dict.fromkeys(code(functions), code(place)[0]))
    modules = {name: f'{op.__module__.rpartition(".")[2]}.py' for name, op in STAND_INS.items()}
    assert written == modules


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None:
        pytest.skip(f'{name} is not installed')
    return Path(spec.submodule_search_locations[0])


def compiled_functions(path: Path) -> set[str]:
    """The functions of the compiled extension that a file calls."""
    nodes = ast.walk(ast.parse(path.read_text(encoding='utf-8')))
    calls = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    return {node.attr for node in calls if node.value.id == 'ext_module'}


def test_every_compiled_function_of_mmcv_is_in_one_of_the_tables():
    found = set().union(*(compiled_functions(path) for path in (package('mmcv') / 'ops').glob('*.py')))
    without = {name for _, functions, _ in rows('Operators without one') for name in code(functions)}
    assert not without & STAND_INS.keys()
    # onedl-mmcv has the suppression of lanes, mmcv has not.
    assert found - {'line_nms_forward'} == without | STAND_INS.keys() - {'line_nms_forward'}


@pytest.mark.parametrize('name', ['mmdet', 'mmseg'])
def test_what_the_models_import_has_stand_ins(name):
    """Every name that a file of the package imports from ``mmcv.ops`` is defined on functions that have a stand-in."""
    ops = package('mmcv') / 'ops'
    defined_in = {}
    for node in ast.parse((ops / '__init__.py').read_text(encoding='utf-8')).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            defined_in.update({alias.asname or alias.name: node.module for alias in node.names})
    imported = set()
    for path in package(name).rglob('*.py'):
        text = path.read_text(encoding='utf-8')
        if 'mmcv.ops' not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('mmcv.ops'):
                module = node.module.removeprefix('mmcv.ops').strip('.')
                imported |= {module} if module else {defined_in[alias.name] for alias in node.names}
    assert imported
    needed = set().union(*(compiled_functions(ops / f'{module}.py') for module in imported))
    assert not needed - STAND_INS.keys() - UNUSED
