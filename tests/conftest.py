"""Data and helpers that several test files share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    """The embedded ImageNet-like set: 10 classes, 80 training and 40 validation images of 32 px."""
    from distill.synthetic.imagenet_like import write_imagenet_like

    root = tmp_path_factory.mktemp('shapes')
    write_imagenet_like(root / 'imagenet', size=32, train=80, val=40, shifted=20)
    return root / 'imagenet'


@pytest.fixture(scope='session')
def run_tool():
    """Run one of the project's command lines in a process of its own, as a user does."""

    def run(tool: str, *args, cwd: Path = REPO) -> subprocess.CompletedProcess:
        environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(REPO), os.environ.get('PYTHONPATH', '')])}
        command = [sys.executable, str(REPO / 'tools' / tool), *map(str, args)]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)

    return run
