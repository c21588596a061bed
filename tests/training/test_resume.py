"""A run that was stopped and resumed ends with the weights of one that was never stopped."""

import itertools
import os
import shutil
import signal

import pytest
import torch
from processes import start
from small_runs import CONFIGS, SHORT, STEPWISE, TINY, assert_same_checkpoints, run_training

from backbones.checkpoint import read_weights, weights_sha256
from backbones.record import ModelRecord
from distill.training.resume import latest_checkpoint


def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(trained, shapes, tmp_path):
    stopped = tmp_path / 'stopped'
    stopped.mkdir()
    shutil.copy(trained / 'epoch_1.pth', stopped)
    assert run_training('robust-resnet-tiny_shapes.py', shapes, stopped, '--resume') == 0
    assert_same_checkpoints(trained / 'epoch_2.pth', stopped / 'epoch_2.pth')


class Killed(BaseException):
    """No error that anything would handle."""


def test_run_stopped_at_any_write_ends_with_the_checkpoint_and_best_student_of_one_that_was_not(
    trained, shapes, tmp_path, monkeypatch
):
    replace = os.replace

    def stop_at(write: int) -> None:
        writes = itertools.count(1)

        def counted(*paths) -> None:
            if next(writes) == write:
                raise Killed
            replace(*paths)

        monkeypatch.setattr('backbones.files.os.replace', counted)

    # Before the best student's weights, after them and before their description, and before the second checkpoint.
    for write in (2, 2, 3):
        stop_at(write)
        with pytest.raises(Killed):
            run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path, '--resume')
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_1.pth', 'student_best.pth']
    stop_at(0)
    assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path, '--resume') == 0
    assert_same_checkpoints(trained / 'epoch_2.pth', tmp_path / 'epoch_2.pth')
    assert ModelRecord.read(tmp_path / 'student_best.pth') == ModelRecord.read(trained / 'student_best.pth')
    assert weights_sha256(read_weights(tmp_path / 'student_best.pth')) == weights_sha256(
        read_weights(trained / 'student_best.pth')
    )


def test_run_that_accumulates_gradients_is_resumed_in_the_middle_of_an_epoch(shapes, tmp_path):
    """Four batches an epoch, of which three make a step and the last another."""
    options, whole = [*STEPWISE, 'optim_wrapper.accumulative_counts=3'], tmp_path / 'whole'
    assert run_training('robust-resnet-tiny_shapes.py', shapes, whole, options=options) == 0
    steps = [torch.load(whole / f'iter_{step}.pth', weights_only=True) for step in (2, 3, 4, 5)]
    weights = [step['ema_state_dict']['module.student.head.fc.weight'] for step in steps]
    assert [not torch.equal(*pair) for pair in itertools.pairwise(weights)] == [True, True, False]
    for step in (3, 4, 7):
        stopped = tmp_path / f'stopped_{step}'
        stopped.mkdir()
        shutil.copy(whole / f'iter_{step}.pth', stopped)
        assert run_training('robust-resnet-tiny_shapes.py', shapes, stopped, '--resume', options=options) == 0
        assert not (stopped / f'iter_{step - 1}.pth').exists()
        assert_same_checkpoints(whole / 'iter_8.pth', stopped / 'iter_8.pth')


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_killed_run_goes_on_to_the_weights_of_an_uninterrupted_one(trained, shapes, tmp_path, number):
    """Killed in the middle of the second epoch, as the log says."""
    options = [*TINY, *SHORT, 'train_cfg.max_epochs=2', 'default_hooks.logger.interval=1']
    worker = ['train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=True']
    options += worker
    command = [CONFIGS / 'robust-resnet-tiny_shapes.py', '--data-root', shapes, '--work-dir', tmp_path]
    started = start('train', [*command, '--cfg-options', *options])
    assert any('Epoch(train) [2][2/4]' in line for line in started.lines())
    os.kill(started.process.pid, number)
    started.process.join(60)
    assert started.process.exitcode == -number
    assert not (tmp_path / 'epoch_2.pth').exists()
    assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path, '--resume', options=worker) == 0
    assert_same_checkpoints(trained / 'epoch_2.pth', tmp_path / 'epoch_2.pth')


def test_latest_checkpoint_is_the_one_of_the_highest_number(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for name in ('epoch_9.pth', 'epoch_10.pth', 'student_best.pth', '.epoch_11.pth.1.tmp', 'epoch_x.pth'):
        (tmp_path / name).touch()
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_10.pth')
