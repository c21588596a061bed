"""A training that several test files look at."""

from pathlib import Path

import pytest
from api_runs import ALONE, SHORT, SHORT_OPTIONS
from processes import leave_configs_unformatted

import distill


@pytest.fixture(scope='session', autouse=True)
def unformatted_configs():
    """Have runs start sooner."""
    leave_configs_unformatted()


@pytest.fixture(scope='session')
def trained(shapes, tmp_path_factory) -> 'distill.TrainResult':
    """A student that a call has trained for two epochs of four steps."""
    return distill.train(ALONE, shapes, tmp_path_factory.mktemp('trained') / 'alone', **SHORT)


@pytest.fixture(scope='session')
def trained_by_command(shapes, tmp_path_factory, run_tool) -> Path:
    """The same, by a command in a process of its own: the work directory."""
    work_dir = tmp_path_factory.mktemp('by_command') / 'alone'
    arguments = [ALONE, '--data-root', shapes, '--work-dir', work_dir, '--cfg-options', *SHORT_OPTIONS]
    done = run_tool('train.py', *arguments)
    assert done.returncode == 0, done.stderr
    return work_dir
