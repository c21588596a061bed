"""A run that was stopped and resumed ends with the weights of one that was never stopped."""

import contextlib
import itertools
import os
import shutil
import signal

import pytest
import torch
from processes import start
from small_runs import CONFIGS, SHORT, STEPWISE, TINY, assert_same_checkpoints, run_training

from backbones.checkpoint import build_model, read_weights, weights_sha256
from backbones.layers.depthwise import cpu_ways
from backbones.record import ModelRecord
from distill.training.hooks.save_student import mend, save_student
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

    # Before the best student's weights, after them and before their description, before the second file of weights, and
    # before the second checkpoint.
    for write in (2, 2, 3, 2):
        stop_at(write)
        with pytest.raises(Killed):
            run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path, '--resume')
        if (tmp_path / 'student_best.json').is_file():
            build_model(checkpoint=tmp_path / 'student_best.safetensors')
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == ['epoch_1.pth', 'student_best.pth']
    stop_at(0)
    assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path, '--resume') == 0
    assert_same_checkpoints(trained / 'epoch_2.pth', tmp_path / 'epoch_2.pth')
    assert ModelRecord.read(tmp_path / 'student_best.pth') == ModelRecord.read(trained / 'student_best.pth')
    for ending in ('pth', 'safetensors'):
        assert weights_sha256(read_weights(tmp_path / f'student_best.{ending}')) == weights_sha256(
            read_weights(trained / 'student_best.pth')
        )


def test_a_better_student_is_never_without_a_pair_of_weights_and_record_that_load(trained, tmp_path, monkeypatch):
    """A kill at each of the three writes leaves one of the two files of weights with the record that fits."""
    old = build_model(checkpoint=trained / 'student_best.pth')
    record = ModelRecord.read(trained / 'student_best.pth')
    new = build_model(record.model, **record.model_kwargs)
    replace = os.replace
    for write in (1, 2, 3):
        path = tmp_path / str(write) / 'student_best.safetensors'
        save_student(path, old.state_dict(), record)
        writes = itertools.count(1)

        def counted(*paths, writes=writes, write=write) -> None:
            if next(writes) == write:
                raise Killed
            replace(*paths)

        monkeypatch.setattr('backbones.files.os.replace', counted)
        with pytest.raises(Killed):
            save_student(path, new.state_dict(), record)
        monkeypatch.undo()
        loaded = []
        for one in (path, path.with_suffix('.pth')):
            with contextlib.suppress(ValueError):
                loaded.append(weights_sha256(build_model(checkpoint=one).state_dict()))
        described = ModelRecord.read(path)
        assert described.weights_sha256 in loaded
        assert mend(path, described)
        for one in (path, path.with_suffix('.pth')):
            assert weights_sha256(build_model(checkpoint=one).state_dict()) == described.weights_sha256


def test_a_run_of_before_with_one_file_of_weights_is_resumed(trained, shapes, tmp_path):
    for name in ('epoch_1.pth', 'student_best.pth', 'student_best.json'):
        shutil.copy(trained / name, tmp_path)
    assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path, '--resume') == 0
    assert_same_checkpoints(trained / 'epoch_2.pth', tmp_path / 'epoch_2.pth')
    assert ModelRecord.read(tmp_path / 'student_best.pth') == ModelRecord.read(trained / 'student_best.pth')


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


def test_a_resumed_run_takes_up_the_gradients_that_were_chosen_by_measuring(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv(cpu_ways.VARIABLE, 'measure')
    monkeypatch.setattr(cpu_ways, 'LEAST_WORK', 0)
    options = ['model.student.kernel_size=5', 'model.cut_kernels=False']

    def run(folder: str, measured: str, *arguments: str) -> None:
        monkeypatch.setattr(cpu_ways, '_CHOSEN', {})
        monkeypatch.setattr(cpu_ways, 'measure', lambda usual, compute: measured)
        assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path / folder, *arguments, options=options) == 0

    run('whole', 'padded')
    ways = torch.load(tmp_path / 'whole' / 'epoch_1.pth', weights_only=True)['meta']['depthwise_ways']
    assert set(ways.values()) == {'padded'}
    (tmp_path / 'stopped').mkdir()
    shutil.copy(tmp_path / 'whole' / 'epoch_1.pth', tmp_path / 'stopped')
    # Another processor, or another moment, would choose another way.
    run('stopped', 'torch', '--resume')
    assert cpu_ways.chosen() == ways
    assert_same_checkpoints(tmp_path / 'whole' / 'epoch_2.pth', tmp_path / 'stopped' / 'epoch_2.pth')
    (log,) = (tmp_path / 'whole').glob('*/*.log')
    assert 'weight gradients of depthwise convolutions (ROBUST_BACKBONES_CPU_DEPTHWISE): 20x' in log.read_text()
