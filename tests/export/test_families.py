"""Every family exports and agrees with its model in the engines, as docs/deploy.md says."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
from engine_table import ENGINES, FAMILIES, QUICK

from backbones.zoo import FAMILIES as ZOO
from distill.engines import by_name

PAGE = (Path(__file__).parents[2] / 'docs' / 'deploy.md').read_text()
MISSING = [name for name in ENGINES if by_name(name).missing()]


def test_every_family_has_a_member_in_the_table():
    modules = {timm.model_entrypoint(name).__module__ for name in FAMILIES}
    assert {timm.model_entrypoint(family.models[0].name).__module__ for family in ZOO} <= modules
    assert [name for name in FAMILIES if f'| `{name}` |' not in PAGE] == []


@pytest.mark.skipif(bool(MISSING), reason=f'not installed: {", ".join(MISSING)}')
@pytest.mark.parametrize(
    'name', [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES]
)
def test_the_engines_take_what_the_table_says(name):
    """Files are verified to 1e-4 where they are written; one that differs is a cell that says so.

    In a process of its own, as an export is: after the tests of other rooms one of the engines has ended the process.
    """
    code = (
        'import sys, torch; torch.set_num_threads(1); from engine_table import line, row; print(line(row(sys.argv[1])))'
    )
    ran = subprocess.run([sys.executable, '-c', code, name], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().splitlines()[-1] in PAGE
