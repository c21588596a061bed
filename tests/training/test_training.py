"""Training runs: what they leave behind, and mistakes that stop them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from small_runs import CONFIGS, SHORT, TINY, run_training

from backbones.checkpoint import build_model, weights_sha256
from backbones.record import ModelRecord
from distill.data.views import Views


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


def test_loaded_weights_survive_the_start_of_training_and_the_teacher_stays_out(trained, shapes, tmp_path):
    work_dir = tmp_path / 'distilled'
    options = [f'model.student.checkpoint={trained / "student_best.pth"}', 'optim_wrapper.optimizer.lr=0']
    options += [
        f'model.teacher.checkpoint={trained / "student_best.pth"}',
        'default_hooks.ema=None',
        'param_scheduler=None',
    ]
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


BY_MMENGINE = """
import argparse
from mmengine.config import Config, DictAction
from mmengine.runner import Runner

parser = argparse.ArgumentParser()
parser.add_argument('paths', nargs=3)
parser.add_argument('--cfg-options', nargs='+', action=DictAction)
args = parser.parse_args()
path, work_dir, data_root = args.paths
config = Config.fromfile(path)
config.merge_from_dict(args.cfg_options)
config.work_dir = work_dir
for loader in (config.train_dataloader, config.val_dataloader):
    loader.dataset.root = data_root
config.test_dataloader = config.test_cfg = config.test_evaluator = None
Runner.from_cfg(config).train()
"""


@pytest.mark.slow
def test_a_config_trains_by_mmengine_alone_with_what_it_imports_itself(trained, shapes, tmp_path):
    """A fresh process, since other tests have registered everything in this one."""
    options = [*TINY, *SHORT, 'train_cfg.max_epochs=1', f'model.teacher.checkpoint={trained / "student_best.pth"}']
    config = CONFIGS / 'deit-mini_robust-resnet-tiny_shapes.py'
    command = [sys.executable, '-c', BY_MMENGINE, config, tmp_path, shapes, '--cfg-options', *options]
    done = subprocess.run(command, cwd=CONFIGS.parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert ModelRecord.read(tmp_path / 'student_best.pth').epoch == 1


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
