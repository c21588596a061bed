"""A trained student that the tests of this folder share."""

from pathlib import Path

import pytest
from processes import leave_configs_unformatted
from small_runs import run_training


@pytest.fixture(scope='session', autouse=True)
def unformatted_configs():
    """Have runs start sooner."""
    leave_configs_unformatted()


@pytest.fixture(scope='session')
def trained(shapes, tmp_path_factory) -> Path:
    """Work directory of a student trained for two epochs of four steps."""
    work_dir = tmp_path_factory.mktemp('trained') / 'alone'
    assert run_training('robust-resnet-tiny_shapes.py', shapes, work_dir) == 0
    return work_dir
