"""A run goes on in the middle of an epoch with other steps: each view is shown once an epoch, or the run is refused."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from processes import run_two
from small_runs import CONFIGS, SHORT, STEPWISE, TINY

from distill.cli.train import main as train
from distill.training.resume import latest_checkpoint

EPOCHS = 3


def command(config: Path, data: Path, work_dir: Path, batch_size: int) -> list[str]:
    options = [*TINY, *SHORT, *STEPWISE, f'train_cfg.max_epochs={EPOCHS}', f'train_dataloader.batch_size={batch_size}']
    options += ['default_hooks.checkpoint.max_keep_ckpts=99', 'train_cfg.val_interval=9']
    return [str(config), '--data-root', str(data), '--work-dir', str(work_dir), '--resume', '--cfg-options', *options]


def views(work_dir: Path) -> list[tuple[int, ...]]:
    """Epoch, image and view of all samples that a run has seen."""
    lines = [line for path in work_dir.glob('views_*.txt') for line in path.read_text().splitlines()]
    return [tuple(map(int, line.split())) for line in lines]


@pytest.fixture(scope='module')
def recorded(tmp_path_factory) -> Path:
    """A config that writes down what it sees."""
    config = tmp_path_factory.mktemp('config') / 'recorded.py'
    config.write_text(
        f"_base_ = '{CONFIGS / 'robust-resnet-tiny_shapes.py'}'\n"
        "custom_imports = dict(imports=[*_base_.custom_imports.imports, 'view_recorder'])\n"
        "custom_hooks = [dict(type='RecordViewsHook')]\n"
    )
    return config


@pytest.fixture(scope='module')
def whole(recorded, shapes, tmp_path_factory) -> Path:
    """Work directory of an uninterrupted run: three epochs of four steps of 20 images."""
    work_dir = tmp_path_factory.mktemp('whole')
    assert train(command(recorded, shapes, work_dir, 20)) == 0
    return work_dir


def stopped_at(step: int, whole: Path, work_dir: Path) -> list[tuple[int, ...]]:
    """Leave a work directory as a run that was stopped leaves it; returns what the run had seen."""
    work_dir.mkdir(exist_ok=True)
    shutil.copy(whole / f'iter_{step}.pth', work_dir)
    return views(whole)[: 20 * step]


def assert_each_view_once(seen: list, before: list, whole: Path) -> None:
    assert Counter(before + seen) == Counter(views(whole))
    assert max(Counter(before + seen).values()) == 1
    assert Counter(epoch for epoch, *_ in before + seen) == dict.fromkeys(range(EPOCHS), 80)


@pytest.mark.parametrize('batch_size', [10, 40])
def test_other_batch_size_goes_on_at_the_same_view_and_part_of_the_schedule(
    batch_size, whole, recorded, shapes, tmp_path
):
    before = stopped_at(6, whole, tmp_path / 'resumed')
    assert train(command(recorded, shapes, tmp_path / 'resumed', batch_size)) == 0
    assert_each_view_once(views(tmp_path / 'resumed'), before, whole)
    # Steps and schedules count as in a run that had this batch size from the beginning.
    assert train(command(recorded, shapes, tmp_path / 'same', batch_size)) == 0
    resumed, same = (torch.load(latest_checkpoint(tmp_path / name), weights_only=True) for name in ('resumed', 'same'))
    assert resumed['meta']['iter'] == same['meta']['iter'] == EPOCHS * 80 // batch_size
    rates = [checkpoint['message_hub']['log_scalars']['train/lr'][0] for checkpoint in (resumed, same)]
    count = (EPOCHS * 80 - len(before)) // batch_size
    assert rates[0][-count:] == pytest.approx(rates[1][-count:])


@pytest.mark.slow
@pytest.mark.parametrize('batch_size', [10, 20])
def test_two_processes_go_on_where_one_has_stopped(batch_size, whole, recorded, shapes, tmp_path):
    before = stopped_at(6, whole, tmp_path)
    run_two('train', command(recorded, shapes, tmp_path, batch_size))
    assert_each_view_once(views(tmp_path), before, whole)
    # And one goes on where two have stopped, in the middle of the third epoch.
    stopped = tmp_path / f'iter_{200 // batch_size // 2}.pth'
    place = torch.load(stopped, weights_only=True)['meta']
    assert (place['samples_done'], place['batch_size'], place['processes']) == (40, batch_size, 2)
    before += [view for view in views(tmp_path) if view[0] == 1]
    alone = tmp_path / 'alone'
    alone.mkdir()
    shutil.copy(stopped, alone)
    assert train(command(recorded, shapes, alone, 20)) == 0
    seen = Counter(view for view in views(tmp_path) if view[0] == 2)
    rest = Counter(views(alone))
    assert len(rest) == sum(rest.values()) == 40
    assert rest <= seen


def test_steps_that_do_not_fit_are_refused_in_one_line_before_training(whole, recorded, shapes, tmp_path, capsys):
    stopped_at(6, whole, tmp_path)
    assert train(command(recorded, shapes, tmp_path, 30)) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert 'after 40 images with steps of 20 images x 1 process, and steps of 30 images x 1 process cannot' in lines[0]
    assert 'resume with train_dataloader.batch_size=20 and 1 process or other steps' in lines[0]
    assert not views(tmp_path)


def test_checkpoint_of_an_earlier_version_goes_on_as_before(whole, recorded, shapes, tmp_path):
    before = stopped_at(6, whole, tmp_path)
    checkpoint = torch.load(tmp_path / 'iter_6.pth', weights_only=True)
    for key in ('samples_done', 'batch_size', 'processes'):
        del checkpoint['meta'][key]
    torch.save(checkpoint, tmp_path / 'iter_6.pth')
    assert train(command(recorded, shapes, tmp_path, 20)) == 0
    assert_each_view_once(views(tmp_path), before, whole)
