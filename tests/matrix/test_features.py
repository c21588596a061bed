"""The experiment on features: a small one from end to end, and the plan and the table of its downstream half."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config

from backbones.checkpoint import save_model
from backbones.record import ModelRecord
from distill.base.files import write_text
from distill.base.records import Cell
from distill.matrix import features, features_scenes
from distill.results.files import new_results, read_results, write_results
from distill.results.per_image import Regions, per_image_file, write_per_image
from distill.results.schema import FILE_NAME
from distill.synthetic.imagenet_like import write_imagenet_like

NARROW = dict(channels=(8, 8, 16, 24), stem_width=8)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """Ten classes of 32 pixels; a tenth of the training images is a batch."""
    root = tmp_path_factory.mktemp('features') / 'imagenet'
    write_imagenet_like(root, size=32, train=660, val=20, shifted=0)
    return root


@pytest.fixture
def arguments(data, tmp_path) -> list[str]:
    torch.manual_seed(0)
    teacher = tmp_path / 'teacher.safetensors'
    save_model(teacher, timm.create_model('resnet10t', **NARROW), ModelRecord('resnet10t', dict(NARROW)))
    words = ['--teacher', str(teacher), '--teacher-size', '32', '--data-root', str(data)]
    words += [
        '--images',
        str(data / 'train'),
        str(data / 'val'),
        '--limit',
        '128',
        '--work-dir',
        str(tmp_path / 'work'),
    ]
    return [*words, '--epochs', '1', '--alone-epochs', '1', '--corruption-limit', '1', '--labels', '0.1']


def test_a_small_experiment_from_end_to_end(arguments, data, tmp_path, capsys):
    words = [*arguments, '--students', 'robust', '--seeds', '3']
    assert features.main(words) == 0
    work = tmp_path / 'work'
    assert [len((work / 'lists' / f'{number}.txt').read_text().splitlines()) for number in (0, 1)] == [128, 20]
    rows = (work / 'table.md').read_text().splitlines()
    assert [row.split(' | ')[:3] for row in rows[2:]] == [
        ['| robust', f'{method}, 10 %', suite] for method in ('knn', 'linear') for suite in ('clean', 'corruption')
    ]
    # What a network is trained on alone is what the probe of its seed learns from.
    linked = sorted(path.relative_to(work / 'subsets/s3/train') for path in (work / 'subsets/s3/train').rglob('*.*'))
    assert len(linked) == 70
    probe = read_results(work / 'probe-s3')['runs']['robust-alone-s3.linear-10pct-seed3']['probe']
    assert (probe['images'], probe['seed'], probe['share']) == (70, 3, 0.1)
    # What is done is not done again, and what is lost is.
    capsys.readouterr()
    (work / 'logs' / 'probe-s3.json').unlink()
    assert features.main(words) == 0
    said = capsys.readouterr().out
    assert said.count('was done before') == 3
    assert said.count('…') == 1
    assert rows == (work / 'table.md').read_text().splitlines()


def test_every_command_is_understood_and_seeds_are_paired(arguments, tmp_path):
    args = features.build_parser().parse_args(arguments)
    steps = features.steps_of(args)
    known = set()
    for step in steps:
        assert known.issuperset(step.needs)
        known.add(step.name)
        importlib.import_module(f'distill.cli.{step.command[0]}').build_parser().parse_args(step.command[1:])
    assert len(steps) == 1 + 3 * (2 * 2 + 1)
    probe = next(step.command for step in steps if step.name == 'probe-s1')
    assert all('-s1=' in word for word in probe[1:7])
    assert probe[probe.index('--seeds') + 1] == '1'


def test_the_table_by_hand():
    scores = {
        ('robust', 'linear, 10 %', 'clean'): dict(untrained=[20.0, 22.0], alone=[40.0, 44.0], distilled=[50.0, 53.0])
    }
    # Student's t with one degree of freedom is 12.706, and the standard error half of the difference.
    assert features.table(scores)[2] == (
        '| robust | linear, 10 % | clean | 21.0 ± 12.7 | 42.0 ± 25.4 | 51.5 ± 19.1 | +30.5 ± 6.4 \\* | +9.5 ± 6.4 \\* |'
    )
    one = {key: {way: values[:1] for way, values in of.items()} for key, of in scores.items()}
    assert features.table(one)[2] == '| robust | linear, 10 % | clean | 20.0 | 40.0 | 50.0 | +30.0 | +10.0 |'


@pytest.fixture
def scenes(tmp_path) -> list[str]:
    """The work directory of an experiment on features, and a network that stands for one that others trained."""
    student = timm.create_model('tf_efficientnet_lite0', num_classes=0)
    path = tmp_path / 'network.safetensors'
    save_model(path, student, ModelRecord('tf_efficientnet_lite0', {'num_classes': 0}, mean=[0.5] * 3, std=[0.25] * 3))
    distilled = tmp_path / 'features' / 'robust-distilled-s0' / 'student_best.safetensors'
    features.write_untrained(distilled, 'robust', 0)
    words = ['--features', str(tmp_path / 'features'), '--network', str(path), '--work-dir', str(tmp_path / 'scenes')]
    return [*words, '--bccd', str(tmp_path / 'bccd'), '--camvid', str(tmp_path / 'camvid')]


def test_each_backbone_fits_its_detector_and_its_segmenter(scenes):
    pytest.importorskip('mmdet')
    from backbones.openmmlab import TimmBackbone

    steps = features_scenes.steps_of(features_scenes.build_parser().parse_args(scenes))
    assert [step.name for step in steps[::2]] == [
        f'{task}-{way}-s0' for task in ('bccd', 'camvid') for way in features_scenes.WAYS
    ]
    for step in steps:
        importlib.import_module(f'distill.cli.{step.command[0]}').build_parser().parse_args(step.command[1:])
    for step in steps[::2]:
        model = Config.fromfile(step.command[1]).model
        backbone = TimmBackbone(**{key: value for key, value in model.backbone.items() if key != 'type'})
        wanted = model.decode_head.in_channels if 'decode_head' in model else model.neck[0].in_channels
        assert wanted == (backbone.channels[-1] if 'decode_head' in model else list(backbone.channels))
        trained = any(parameter.requires_grad for parameter in backbone.parameters())
        assert trained != ('frozen' in step.name)
        mean = 127.5 if 'network' in step.name else 123.675
        assert model.data_preprocessor.mean[0] == pytest.approx(mean)


def test_the_table_of_backbones_by_hand(scenes, tmp_path):
    args = features_scenes.build_parser().parse_args([*scenes, '--ways', 'scratch', 'distilled'])
    args.bccd = None
    for way, clean in (('scratch', 0.3), ('distilled', 0.4)):
        folder, union = args.work_dir / f'camvid-{way}-s0', np.arange(100, 200, 10)[:, None]
        write_text(folder / 'x', '')
        for cell in (None, Cell('gaussian_noise', 3)):
            write_per_image(per_image_file(folder, cell), Regions(np.arange(10).astype(str), union * clean, union))
        summary = dict(P=clean, mPC=clean / 2, rPC_pct=50.0, cells={})
        corruption = dict(kinds=['gaussian_noise'], severities=[3], images=10, mIoU=summary)
        results = {**new_results(), 'segmentation': dict(mIoU=clean, images=10, corruption=corruption)}
        write_results(folder / FILE_NAME, results)
    # All images are alike, so that which are drawn changes nothing.
    assert features_scenes.table(args)[2:] == [
        '| camvid | scratch | 30.0 | – | 15.0 |',
        '| camvid | distilled | 40.0 | +10.0 [+10.0, +10.0] | 20.0 |',
    ]
