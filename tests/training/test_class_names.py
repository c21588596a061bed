"""Runs whose parts name other classes, or have no batch, end in one line before the first step."""

import io
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from small_runs import run_training

from backbones.checkpoint import build_model, save_model
from backbones.record import ModelRecord
from distill.cli.test import main as run_test
from distill.training.runner import Runner

STUDENT, DISTILLED = 'robust-resnet-tiny_shapes.py', 'deit-mini_robust-resnet-tiny_shapes.py'


@pytest.fixture(scope='module')
def renamed(shapes, tmp_path_factory) -> Path:
    """The set with another name for one class of both parts."""
    root = shutil.copytree(shapes, tmp_path_factory.mktemp('data') / 'renamed')
    for split in ('train', 'val'):
        (root / split / 'circle').rename(root / split / 'blob')
    return root


@pytest.fixture(scope='module')
def other_val(shapes, tmp_path_factory) -> Path:
    """The set with another name for one class of the validation set."""
    root = shutil.copytree(shapes, tmp_path_factory.mktemp('data') / 'other')
    (root / 'val' / 'circle').rename(root / 'val' / 'zcircle')
    return root


def test_other_classes_are_refused_by_name(shapes, trained, renamed, other_val, tmp_path, capsys):
    best = trained / 'student_best.pth'
    lacks = f"the set '{renamed}/train' lacks circle (1 of 10) and has blob besides (1 of 10), compared with "
    resumed = tmp_path / 'resumed'
    resumed.mkdir()
    shutil.copy(trained / 'epoch_1.pth', resumed)
    fewer = shutil.copytree(shapes, tmp_path / 'fewer')
    shutil.rmtree(fewer / 'val' / 'star')
    cases = [
        (STUDENT, other_val, [], [], f"the set '{other_val}/val' lacks circle (1 of 10) and has zcircle besides"),
        (STUDENT, fewer, [], [], f"the set '{fewer}/val' lacks star (1 of 10), compared with the training set"),
        (STUDENT, renamed, [f'model.student.checkpoint={best}'], [], f"{lacks}the student's checkpoint '{best}'"),
        (DISTILLED, renamed, [f'model.teacher.checkpoint={best}'], [], f"{lacks}the teacher '{best}'"),
        (STUDENT, renamed, [], ['--resume'], f"{lacks}the checkpoint '{resumed / 'epoch_1.pth'}'"),
    ]
    for config, root, options, arguments, message in cases:
        work_dir = resumed if arguments else tmp_path / 'work'
        capsys.readouterr()
        assert run_training(config, root, work_dir, *arguments, options=options) == 1, message
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert message in lines[0]
    assert [path.name for path in resumed.glob('*.pth')] == ['epoch_1.pth']
    dumped = next(trained.glob('*.py'))
    for root, status in ((renamed, 1), (shapes, 0)):
        assert (
            run_test([str(dumped), str(trained / 'epoch_2.pth'), '--data-root', str(root), '--work-dir', str(tmp_path)])
            == status
        )
    assert f"the set '{renamed}/val' lacks circle" in capsys.readouterr().err


def test_shards_are_counted_and_the_advice_is_no_wrong_number_of_classes(shapes, tmp_path, capsys):
    """Shards have no names: a validation set with a label too many does not make the student's classes wrong."""
    image = next((shapes / 'train' / 'circle').iterdir())
    for name, labels in (('train', range(10)), ('val', range(11))):
        with tarfile.open(tmp_path / f'{name}-0.tar', 'w') as tar:
            for label in labels:
                tar.add(image, f'{label}.jpg')
                entry = tarfile.TarInfo(f'{label}.cls')
                entry.size = len(str(label))
                tar.addfile(entry, io.BytesIO(str(label).encode()))
    sets = [f'{part}_dataloader.dataset.name=wds/' for part in ('train', 'val', 'test')]
    options = [*sets, 'train_dataloader.batch_size=4']
    assert run_training(STUDENT, tmp_path, tmp_path / 'work', options=options) == 1
    line = capsys.readouterr().err.strip()
    assert 'the validation set has 11 classes (0, 1, 2, 3, 4, …) and the student 10' in line
    assert 'num_classes' not in line
    options = [*options, 'val_dataloader.dataset.split=train']
    assert run_training(STUDENT, tmp_path, tmp_path / 'work', epochs=1, options=options) == 0
    # Numbers are no names: the record of the student tells none.
    assert ModelRecord.read(tmp_path / 'work' / 'student_best.pth').classes is None


def test_checkpoints_of_earlier_versions_tell_their_classes_by_the_best_student(trained, renamed, tmp_path, capsys):
    checkpoint = torch.load(trained / 'epoch_1.pth', weights_only=True)
    del checkpoint['meta']['dataset_meta']
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    for name in ('student_best.pth', 'student_best.json'):
        shutil.copy(trained / name, tmp_path)
    assert run_training(STUDENT, renamed, tmp_path, '--resume') == 1
    assert (
        'lacks circle (1 of 10) and has blob besides (1 of 10), compared with the checkpoint' in capsys.readouterr().err
    )


def test_a_student_keeps_its_order_of_classes_and_the_data_follow(trained, shapes, tmp_path):
    """The same weights with the classes named in reverse: images of the first class then have the last label."""
    record = ModelRecord.read(trained / 'student_best.pth')
    network = build_model(checkpoint=trained / 'student_best.pth')
    head = network.get_classifier()
    with torch.no_grad():
        head.weight.copy_(head.weight.flip(0)), head.bias.copy_(head.bias.flip(0))
    backwards = ModelRecord(record.model, record.model_kwargs, classes=record.classes[::-1])
    save_model(tmp_path / 'backwards.pth', network, backwards)
    scores = []
    for name, checkpoint in (('a', trained / 'student_best.pth'), ('b', tmp_path / 'backwards.pth')):
        options = [f'model.student.checkpoint={checkpoint}', 'optim_wrapper.optimizer.lr=0', 'param_scheduler=[]']
        options += ['default_hooks.ema=None']
        assert run_training(STUDENT, shapes, tmp_path / name, epochs=1, options=options) == 0
        found = ModelRecord.read(tmp_path / name / 'student_best.pth')
        scores.append(found.scores['top1_pct'])
        assert found.classes == ModelRecord.read(checkpoint).classes
    assert scores[0] == scores[1]


def test_a_run_without_a_step_is_no_success(shapes, tmp_path, capsys):
    few = tmp_path / 'few'
    for split in ('train', 'val'):
        for folder in (shapes / split).iterdir():
            image = next(folder.iterdir())
            (few / split / folder.name).mkdir(parents=True)
            shutil.copy(image, few / split / folder.name)
    cases = [
        (
            few,
            [],
            "train' has 10 images and a batch 20, so that there is no whole batch; set batch_size=10 or less, or",
        ),
        (few, ['train_dataloader.batch_size=5', 'val_dataloader.drop_last=True'], "val' has 10 images and a batch 100"),
        (shapes, ['param_scheduler=[]'], 'the run took no step'),
    ]
    for root, options, message in cases:
        assert run_training(STUDENT, root, tmp_path / 'work', options=options, epochs=0 if root is shapes else 2) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert message in lines[0]
    # Loops by iteration build their loader in the same way; an endless sampler fills every batch.
    settings = dict(dataset=dict(type='Views', root=str(few), split='train'), batch_size=20, drop_last=True)
    with pytest.raises(ValueError, match=f"'{few}/train' has 10 images and a batch 20"):
        Runner.build_dataloader({**settings, 'sampler': dict(type='DefaultSampler')})
    assert len(Runner.build_dataloader({**settings, 'sampler': dict(type='InfiniteSampler')}).dataset) == 10
