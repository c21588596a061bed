"""Every family exports and agrees with its model in the engines, as docs/deploy.md says."""

from pathlib import Path

import pytest
import timm
import torch
from engine_table import ENGINES, FAMILIES, QUICK, line, row

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
    """Files are verified to 1e-4 where they are written; one that differs is a cell that says so."""
    torch.set_num_threads(1)
    assert line(row(name)) in PAGE
