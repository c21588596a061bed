"""Runs that go wrong stop before they do harm."""

import shutil
from pathlib import Path

import pytest
import torch

from distill.cli.train import main as train

CONFIG = Path(__file__).parents[2] / 'distill' / 'configs' / 'shapes' / 'robust-resnet-tiny_shapes.py'
OPTIONS = [
    'model.student.dims=[8,8,16,16]',
    'model.student.depths=[1,1,1,1]',
    'model.student.kernel_size=3',
    'train_dataloader.batch_size=40',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'visualizer.vis_backends=[]',
]


def run(shapes: Path, work_dir: Path, *arguments: str, options=()) -> int:
    command = [str(CONFIG), '--data-root', str(shapes), '--work-dir', str(work_dir), *arguments]
    return train([*command, '--cfg-options', *OPTIONS, *options])


@pytest.fixture(scope='module')
def trained(shapes, tmp_path_factory) -> Path:
    """Work directory after one epoch of two steps."""
    work_dir = tmp_path_factory.mktemp('guards') / 'good'
    assert run(shapes, work_dir, options=['train_cfg.max_epochs=1']) == 0
    return work_dir


def test_infinite_loss_stops_the_run_and_names_step_term_and_good_checkpoint(trained, shapes, tmp_path, capsys):
    work_dir = shutil.copytree(trained, tmp_path / 'resumed')
    before = (work_dir / 'epoch_1.pth').read_bytes()
    options = ['train_cfg.max_epochs=3', 'model.losses.0.weight=1e39']
    assert run(shapes, work_dir, '--resume', options=options) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    expected = f'loss_cross_entropy is inf at step 3 (epoch 2); the last good checkpoint is {work_dir / "epoch_1.pth"};'
    assert len(lines) == 1
    assert expected in lines[0]
    assert [path.name for path in work_dir.glob('epoch_*.pth')] == ['epoch_1.pth']
    assert (work_dir / 'epoch_1.pth').read_bytes() == before


def test_weights_ruined_by_the_last_step_of_an_epoch_are_not_saved(shapes, tmp_path, capsys):
    # One step an epoch: its loss is finite, and its gradient times the learning rate is not.
    options = ['train_cfg.max_epochs=2', 'train_dataloader.batch_size=80', 'model.losses.0.weight=1e37']
    options += ['optim_wrapper.optimizer.type=SGD', 'optim_wrapper.optimizer.lr=1e20', 'optim_wrapper.clip_grad=None']
    assert run(shapes, tmp_path, options=options) == 1
    line = capsys.readouterr().err.strip()
    assert line.count('\n') == 0
    assert "in the new checkpoint's state_dict is not finite at step 1 (epoch 1); there is no checkpoint yet;" in line
    assert not list(tmp_path.glob('*.pth'))


def test_good_run_is_left_alone(trained):
    weights = torch.load(trained / 'epoch_1.pth', weights_only=True)['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
