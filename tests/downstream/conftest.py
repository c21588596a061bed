"""Data and runs that the tests of detectors and segmenters share."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import backbones.openmmlab  # noqa: F401 - before anything imports mmcv's operators

# isort: split
import mmengine.config.config
import yapf.yapflib.yapf_api
from downstream_runs import LEAVES, MID_EPOCH, WHOLE, WORKERS, arguments, options
from mmengine.config import Config

from distill.cli.train import main as train
from distill.synthetic.ade20k import write_ade20k
from distill.synthetic.coco import write_coco


@pytest.fixture(autouse=True)
def unformatted_configs(monkeypatch):
    """Leave out the layout of a config's text, which mmengine makes four times a run: half the time of a small one."""
    # The two stacks look for yapf's function in different places.
    for place in (mmengine.config.config, yapf.yapflib.yapf_api):
        monkeypatch.setattr(place, 'FormatCode', lambda text, **settings: (text, False), raising=False)


@pytest.fixture(scope='session')
def leaves() -> dict[str, Config]:
    """All leaf configs by their names, each read once. A test that changes one changes a copy."""
    return {path.stem: Config.fromfile(path, format_python_code=False) for path in LEAVES}


@pytest.fixture(scope='session')
def data(tmp_path_factory) -> Path:
    """Eight training and four validation scenes of 64 pixels in both layouts."""
    root = tmp_path_factory.mktemp('scenes')
    for write, name in ((write_coco, 'coco'), (write_ade20k, 'ade20k')):
        write(root / name, size=64, train=8, val=4)
    return root


@pytest.fixture(scope='session')
def whole_run(data, tmp_path_factory) -> Callable[[str], tuple[Path, list[str]]]:
    """Train a task without interruption, keeping every checkpoint: the work directory and the settings of the run."""
    runs = {}

    def trained(task: str) -> tuple[Path, list[str]]:
        if task not in runs:
            more = [*WORKERS, 'model.backbone.drop_path_rate=0.3', 'default_hooks.checkpoint.max_keep_ckpts=9']
            settings = options(task, WHOLE[task], *more, *([MID_EPOCH] if task == 'det' else []))
            work_dir = tmp_path_factory.mktemp(task)
            assert train([*arguments(task, data, work_dir), *settings]) == 0
            runs[task] = work_dir, settings
        return runs[task]

    return trained


@pytest.fixture
def checkpoints(whole_run) -> dict[str, Path]:
    """A checkpoint of a few steps for each task; what it finds does not matter."""
    return {'mask': whole_run('mask')[0] / 'epoch_1.pth', 'seg': whole_run('seg')[0] / 'iter_1.pth'}
