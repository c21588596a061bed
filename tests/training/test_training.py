"""Training runs: what they leave behind, and that a stopped one ends where an uninterrupted one does."""

import itertools
import json
import os
import shutil
import signal
import socket
from pathlib import Path

import pytest
import timm
import torch

from backbones.checkpoint import build_model, read_weights, weights_sha256
from backbones.record import ModelRecord
from distill.cli.cache import main as cache_teacher
from distill.cli.train import main as train
from distill.data.views import Views
from distill.training.resume import latest_checkpoint

CONFIGS = Path(__file__).parents[2] / 'distill' / 'configs' / 'shapes'
TINY = ['model.student.dims=[8,8,16,16]', 'model.student.depths=[1,1,1,1]', 'model.student.kernel_size=3']
SHORT = [
    'train_dataloader.batch_size=20',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
]
SHORT += ['val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False', 'train_cfg.val_interval=1']
SHORT += [
    'model.data_preprocessor.random_erasing=0.5',
    'model.student.drop_path_rate=0.3',
    'visualizer.vis_backends=[]',
]
SHORT += [
    f'model.data_preprocessor.mixup.{option}' for option in ('mixup_alpha=0.8', 'cutmix_alpha=1', 'num_classes=10')
]
SHORT += ['model.losses.0.label_smoothing=0']
STEPWISE = [f'default_hooks.checkpoint.{option}' for option in ('by_epoch=False', 'interval=1', 'max_keep_ckpts=9')]


def run_training(config: str, data_root: Path, work_dir: Path, *arguments: str, epochs: int = 2, options=()) -> int:
    options = [*TINY, *SHORT, f'train_cfg.max_epochs={epochs}', *options]
    command = [str(CONFIGS / config), '--data-root', str(data_root), '--work-dir', str(work_dir), *arguments]
    return train([*command, '--cfg-options', *options])


@pytest.fixture(scope='module')
def trained(shapes, tmp_path_factory) -> Path:
    """Work directory of a student trained for two epochs."""
    work_dir = tmp_path_factory.mktemp('trained') / 'alone'
    assert run_training('robust-resnet-tiny_shapes.py', shapes, work_dir) == 0
    return work_dir


def test_best_student_loads_in_timm_and_is_what_was_measured(trained, shapes):
    record = ModelRecord.read(trained / 'student_best.pth')
    model = timm.create_model(
        record.model, checkpoint_path=str(trained / 'student_best.pth'), **record.model_kwargs
    ).eval()
    val = Views(str(shapes), 'val', transform=dict(input_size=32, interpolation='bicubic', crop_pct=1.0))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (record.mean, record.std))
    images = (torch.stack([val[i][0] for i in range(len(val))]).float() / 255 - mean) / std
    hits = model(images).argmax(1) == torch.tensor([val[i][1] for i in range(len(val))])
    assert 100 * hits.float().mean().item() == pytest.approx(record.scores['top1_pct'], abs=1e-3)
    assert record.classes == sorted(p.name for p in (shapes / 'train').iterdir())
    assert (record.input_size, record.teacher, record.weights_sha256) == (
        [3, 32, 32],
        None,
        weights_sha256(model.state_dict()),
    )


def test_checkpoints_hold_plain_values_and_tensors(trained):
    checkpoint = torch.load(trained / 'epoch_2.pth', weights_only=True)
    assert set(checkpoint) >= {'state_dict', 'optimizer', 'message_hub', 'meta', 'ema_state_dict'}
    assert checkpoint['meta']['epoch'] == 2
    assert (trained / 'last_checkpoint').read_text() == str(trained / 'epoch_2.pth')


def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(trained, shapes, tmp_path):
    stopped = tmp_path / 'stopped'
    stopped.mkdir()
    shutil.copy(trained / 'epoch_1.pth', stopped)
    assert run_training('robust-resnet-tiny_shapes.py', shapes, stopped, '--resume') == 0
    assert_same_checkpoints(trained / 'epoch_2.pth', stopped / 'epoch_2.pth')


def assert_same_checkpoints(path: Path, other: Path) -> None:
    expected, found = (torch.load(file, weights_only=True) for file in (path, other))
    for part in ('state_dict', 'ema_state_dict'):
        for key, value in expected[part].items():
            assert torch.equal(found[part][key], value), key


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


def test_loaded_weights_survive_the_start_of_training_and_the_teacher_stays_out(trained, shapes, tmp_path):
    work_dir = tmp_path / 'distilled'
    options = [f'model.student.checkpoint={trained / "student_best.pth"}', 'optim_wrapper.optimizer.lr=0']
    options += [f'model.teacher.checkpoint={trained / "student_best.pth"}', 'default_hooks.ema=None']
    code = run_training('deit-mini_robust-resnet-tiny_shapes.py', shapes, work_dir, epochs=1, options=options)
    assert code == 0
    before = build_model(checkpoint=trained / 'student_best.pth').state_dict()
    after = torch.load(work_dir / 'epoch_1.pth', weights_only=True)['state_dict']
    assert {key.removeprefix('student.') for key in after} == set(before)
    for key, value in before.items():
        if 'running' not in key and 'num_batches' not in key:
            assert torch.equal(after[f'student.{key}'], value), key
    description = json.loads((work_dir / 'student_best.json').read_text())
    assert description['teacher']['checkpoint'] == str(trained / 'student_best.pth')


def test_view_is_fixed_by_seed_image_and_view(shapes):
    transform = dict(input_size=32, is_training=True, auto_augment='rand-m9-mstd0.5-inc1')
    views, again = (Views(str(shapes), 'train', transform=transform, seed=3) for _ in range(2))
    first = views[5, 2][0]
    _ = again[7, 0], torch.rand(3)
    assert (again[5, 2][0] == first).all()
    assert (views[5, 3][0] != first).any()
    assert (Views(str(shapes), 'train', transform=transform, seed=4)[5, 2][0] != first).any()


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_killed_run_goes_on_to_the_weights_of_an_uninterrupted_one(trained, shapes, tmp_path, start_tool, number):
    """Killed in the middle of the second epoch, as the log says."""
    options = [*TINY, *SHORT, 'train_cfg.max_epochs=2', 'default_hooks.logger.interval=1']
    worker = ['train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=True']
    options += worker
    command = [CONFIGS / 'robust-resnet-tiny_shapes.py', '--data-root', shapes, '--work-dir', tmp_path]
    with start_tool('train.py', *command, '--cfg-options', *options) as process:
        assert any('Epoch(train) [2][2/4]' in line for line in process.stdout)
        process.send_signal(number)
        assert process.wait(60) == -number
    assert not (tmp_path / 'epoch_2.pth').exists()
    assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path, '--resume', options=worker) == 0
    assert_same_checkpoints(trained / 'epoch_2.pth', tmp_path / 'epoch_2.pth')


FIRST_STEP = [*SHORT[1:], *STEPWISE, 'train_cfg.max_epochs=1', 'model.student.drop_path_rate=0']
FIRST_STEP += ['model.data_preprocessor.mixup.mode=pair', 'param_scheduler.0.start_factor=1']
FIRST_STEP += ['optim_wrapper.optimizer.type=SGD', 'optim_wrapper.optimizer.lr=0.1']


def assert_same_first_step(alone: Path, two: Path) -> None:
    """And that it is a step."""
    first, second = (torch.load(alone / f'iter_{n}.pth', weights_only=True)['state_dict'] for n in (1, 2))
    assert max((second[key] - value).abs().max() for key, value in first.items()) > 1e-3
    of_two = torch.load(two / 'iter_1.pth', weights_only=True)['state_dict']
    for key, value in first.items():
        torch.testing.assert_close(of_two[key], value, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_two_processes_make_the_first_step_of_one_with_twice_the_batch(shapes, trained, tmp_path, torchrun):
    """With a teacher and from its cache. The student has no batch norm, whose statistics are each process's own."""
    command = [str(CONFIGS / 'robust-resnet-mini_deit-tiny_shapes.py'), '--data-root', str(shapes)]
    options = [*FIRST_STEP, f'model.teacher.checkpoint={trained / "student_best.pth"}']
    cache = tmp_path / 'cache'
    assert cache_teacher([*command, '--out', str(cache), '--dtype', 'float32', '--cfg-options', *options]) == 0
    for name, cached in (('online', []), ('cached', [f'model.teacher.cache={cache}'])):
        alone, two = tmp_path / name / 'alone', tmp_path / name / 'two'
        chosen = ['--cfg-options', *options, *cached]
        assert train([*command, '--work-dir', str(alone), *chosen, 'train_dataloader.batch_size=16']) == 0
        arguments = ['--work-dir', two, '--launcher', 'pytorch', *chosen, 'train_dataloader.batch_size=8']
        done = torchrun('train.py', *command, *arguments)
        assert done.returncode == 0, done.stderr[-2000:]
        assert_same_first_step(alone, two)


@pytest.mark.slow
def test_so_do_two_processes_of_slurm_with_batch_norms_that_share_statistics(
    shapes, trained, tmp_path, start_tool, monkeypatch
):
    command = [str(CONFIGS / 'deit-mini_robust-resnet-tiny_shapes.py'), '--data-root', str(shapes)]
    options = ['--cfg-options', *TINY, *FIRST_STEP, f'model.teacher.checkpoint={trained / "student_best.pth"}']
    options += ['model.sync_bn=True']
    alone, two = tmp_path / 'alone', tmp_path / 'two'
    assert train([*command, '--work-dir', str(alone), *options, 'train_dataloader.batch_size=16']) == 0
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    slurm = dict(SLURM_NTASKS='2', SLURM_NODELIST='localhost', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    processes = []
    for rank in ('0', '1'):
        for name, value in {**slurm, 'SLURM_PROCID': rank, 'SLURM_LOCALID': rank}.items():
            monkeypatch.setenv(name, value)
        arguments = ['--work-dir', two, '--launcher', 'slurm', *options, 'train_dataloader.batch_size=8']
        processes.append(start_tool('train.py', *command, *arguments))
    for process in processes:
        output = process.communicate(timeout=600)[0]
        assert process.returncode == 0, output[-2000:]
    assert_same_first_step(alone, two)


def test_latest_checkpoint_is_the_one_of_the_highest_number(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for name in ('epoch_9.pth', 'epoch_10.pth', 'student_best.pth', '.epoch_11.pth.1.tmp', 'epoch_x.pth'):
        (tmp_path / name).touch()
    assert latest_checkpoint(tmp_path) == str(tmp_path / 'epoch_10.pth')


def broken_copy(shapes: Path, target: Path) -> Path:
    shutil.copytree(shapes, target)
    return target


def test_mistakes_are_one_line_with_the_way_out(shapes, trained, tmp_path, capsys):
    empty, truncated = broken_copy(shapes, tmp_path / 'empty'), broken_copy(shapes, tmp_path / 'truncated')
    for image in (empty / 'train' / 'circle').iterdir():
        image.unlink()
    image = sorted((truncated / 'train' / 'circle').iterdir())[0]
    image.write_bytes(image.read_bytes()[:300])
    (tmp_path / 'two').mkdir()
    for split in ('train', 'val'):
        for name in ('circle', 'star'):
            shutil.copytree(shapes / split / name, tmp_path / 'two' / split / name)
    student = 'robust-resnet-tiny_shapes.py'
    distilled = 'deit-mini_robust-resnet-tiny_shapes.py'
    best = trained / 'student_best.pth'
    cases = [
        (student, tmp_path / 'nowhere', [], f"data root '{tmp_path / 'nowhere'}' does not exist"),
        (student, empty, [], f"class folder '{empty / 'train' / 'circle'}' has no image"),
        (student, truncated, [], f"image '{image}' cannot be decoded"),
        (student, truncated, ['train_dataloader.num_workers=1'], f"image '{image}' cannot be decoded"),
        (
            student,
            tmp_path / 'two',
            ['train_dataloader.batch_size=8'],
            'the training set has 2 classes (circle, star) and the student 10',
        ),
        (
            student,
            shapes,
            ['model.student.model=robust_resnet_small'],
            "model 'robust_resnet_small' is unknown; did you",
        ),
        (student, shapes, [f'model.student.checkpoint={best}', 'model.student.kernel_size=5'], 'of another shape'),
        (student, shapes, ['sync_bn=torch'], 'set model.sync_bn=True in its place'),
        (distilled, shapes, ['model.teacher.checkpoint=gone.pth'], "checkpoint 'gone.pth' does not exist"),
        (distilled, shapes, [f'model.teacher.checkpoint={best}', 'model.student.num_classes=7'], 'has 10 classes and'),
    ]
    for config, data_root, options, message in cases:
        capsys.readouterr()
        work_dir = tmp_path / 'work'
        assert run_training(config, data_root, work_dir, options=options) == 1, message
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert message in lines[0]
        assert 'Traceback' not in lines[0]
        assert not list(work_dir.glob('*.pth'))
