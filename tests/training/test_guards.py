"""Runs that go wrong stop before they do harm."""

import shutil

import torch
from small_runs import run_training

CONFIG = 'robust-resnet-tiny_shapes.py'


def test_infinite_loss_stops_the_run_and_names_step_term_and_good_checkpoint(trained, shapes, tmp_path, capsys):
    work_dir = tmp_path / 'resumed'
    work_dir.mkdir()
    shutil.copy(trained / 'epoch_1.pth', work_dir)
    before = (work_dir / 'epoch_1.pth').read_bytes()
    options = ['model.losses.0.weight=1e39']
    assert run_training(CONFIG, shapes, work_dir, '--resume', epochs=3, options=options) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    expected = f'loss_cross_entropy is inf at step 5 (epoch 2); the last good checkpoint is {work_dir / "epoch_1.pth"};'
    assert len(lines) == 1
    assert expected in lines[0]
    assert [path.name for path in work_dir.glob('epoch_*.pth')] == ['epoch_1.pth']
    assert (work_dir / 'epoch_1.pth').read_bytes() == before


def test_weights_ruined_by_the_last_step_of_an_epoch_are_not_saved(shapes, tmp_path, capsys):
    # One step an epoch, at the full rate: its loss is finite, and its gradient times the learning rate is not.
    options = ['train_dataloader.batch_size=80', 'model.losses.0.weight=1e37', 'param_scheduler=None']
    options += ['optim_wrapper.optimizer.type=SGD', 'optim_wrapper.optimizer.lr=1e20', 'optim_wrapper.clip_grad=None']
    assert run_training(CONFIG, shapes, tmp_path, options=options) == 1
    line = capsys.readouterr().err.strip()
    assert line.count('\n') == 0
    assert "in the new checkpoint's state_dict is not finite at step 1 (epoch 1); there is no checkpoint yet;" in line
    assert not list(tmp_path.glob('*.pth'))


def test_good_run_is_left_alone(trained):
    weights = torch.load(trained / 'epoch_1.pth', weights_only=True)['state_dict']
    assert all(value.isfinite().all() for value in weights.values())
