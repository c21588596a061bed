"""Every family exports and agrees with its model in the engines, as docs/deploy.md says."""

import os
from pathlib import Path

import pytest
import timm
import torch
from engine_table import ENGINES, FAMILIES, QUICK, export, line, row

from backbones.zoo import FAMILIES as ZOO
from distill.engines import by_name
from distill.export.files import Wish

PAGE = (Path(__file__).parents[2] / 'docs' / 'deploy.md').read_text()
WHOLE_TABLE = pytest.mark.skipif(
    'ALL_FAMILIES' not in os.environ, reason='takes a minute a family: ALL_FAMILIES=1 runs the whole table'
)
TWO = ('onnx', 'openvino')
MISSING = [name for name in ENGINES if by_name(name).missing()]


def test_every_family_has_a_member_in_the_table():
    modules = {timm.model_entrypoint(name).__module__ for name in FAMILIES}
    assert {timm.model_entrypoint(family.models[0].name).__module__ for family in ZOO} <= modules
    assert [name for name in FAMILIES if f'| `{name}` |' not in PAGE] == []


@pytest.mark.skipif(bool(MISSING), reason=f'not installed: {", ".join(MISSING)}')
@pytest.mark.parametrize(
    'name', [one if one in QUICK else pytest.param(one, marks=[pytest.mark.slow, WHOLE_TABLE]) for one in FAMILIES]
)
def test_the_engines_take_what_the_table_says(name):
    """Files are verified to 1e-4 where they are written; one that differs is a cell that says so."""
    torch.set_num_threads(1)
    assert line(row(name)) in PAGE


@pytest.mark.skipif(bool({*TWO} & {*MISSING}), reason='ONNX or OpenVINO is not installed')
@pytest.mark.parametrize('name', [one for one in FAMILIES if one not in QUICK])
def test_every_family_is_the_same_in_onnx_and_openvino(name, tmp_path):
    """At one size, which is exported within seconds; a file that differs by more than 1e-4 is an error."""
    torch.set_num_threads(1)
    wish = Wish(TWO, fixed_size=True, count=2, threads=1)
    assert [one.manifest.engine for one in export(name, tmp_path, wish)] == [*TWO]
