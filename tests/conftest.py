"""Data and helpers that several test files share."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
# Two runs that are compared bit for bit must not have measured which gradient is faster.
os.environ.setdefault('ROBUST_BACKBONES_CPU_DEPTHWISE', 'rule')


@pytest.fixture(autouse=True)
def fresh_mmengine():
    """Forget mmengine's loggers: a run of the next test in the same second would get one with a closed stream."""
    yield
    # Only what is loaded: most tests need no mmengine.
    if 'mmengine' in sys.modules:
        from mmengine.logging import MessageHub, MMLogger
        from mmengine.visualization import Visualizer

        # Each class keeps its own: mmdet's and mmseg's visualizers beside mmengine's.
        kinds = [MMLogger, MessageHub, Visualizer]
        for kind in kinds:
            kind._instance_dict.clear()
            kinds += kind.__subclasses__()


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    """The embedded ImageNet-like set: 10 classes, 80 training and 40 validation images of 32 px."""
    from distill.synthetic.imagenet_like import write_imagenet_like

    root = tmp_path_factory.mktemp('shapes')
    write_imagenet_like(root / 'imagenet', size=32, train=80, val=40, shifted=20)
    return root / 'imagenet'


def command_of(tool: str, *args, launch: Sequence[str] = ()) -> dict:
    """A command line of the project, as arguments of `subprocess`."""
    path = os.pathsep.join([str(REPO), os.environ.get('PYTHONPATH', '')])
    command = [sys.executable, *launch, str(REPO / 'tools' / tool), *map(str, args)]
    return dict(args=command, env={**os.environ, 'PYTHONPATH': path}, text=True)


@pytest.fixture(scope='session')
def run_tool():
    """Run one of the project's command lines in a process of its own, as a user does."""

    def run(tool: str, *args, cwd: Path = REPO) -> subprocess.CompletedProcess:
        return subprocess.run(**command_of(tool, *args), cwd=cwd, capture_output=True, timeout=600)

    return run


@pytest.fixture(scope='session')
def start_tool():
    """Start one of the project's command lines; its output is a pipe."""

    def start(tool: str, *args) -> subprocess.Popen:
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return subprocess.Popen(**command_of(tool, *args), cwd=REPO, **pipes)

    return start


@pytest.fixture(scope='session')
def torchrun():
    """Run one of the project's command lines in two processes."""

    def run(tool: str, *args) -> subprocess.CompletedProcess:
        launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
        return subprocess.run(**command_of(tool, *args, launch=launch), cwd=REPO, capture_output=True, timeout=600)

    return run
