"""Detectors and segmenters through the command lines: corruption, predictions, pictures, costs."""

import json
from pathlib import Path

import mmdet
import mmseg
import numpy as np
import pytest
import torch
from downstream_runs import CONFIGS, ROOT, arguments, options
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from mmseg.structures import SegDataSample
from PIL import Image

from backbones.cost import count
from distill.base.records import choose_kinds
from distill.cli.browse import main as browse_dataset
from distill.cli.flops import main as get_flops
from distill.cli.print_config import main as print_config
from distill.cli.test import main as run_test
from distill.cli.train import main as train
from distill.corruptions import KINDS, corrupt
from distill.downstream.corruption import insert_corrupt
from distill.downstream.flops import without_weights
from distill.downstream.transforms import Corrupt
from distill.results.per_image import read_per_image
from distill.results.schema import validate

SCORE = {'mask': ('detection', 'segm_mAP'), 'seg': ('segmentation', 'mIoU')}


@pytest.mark.slow
@pytest.mark.parametrize('task', ['mask', 'seg'])
def test_corruption_benchmark_goes_on_where_it_stopped(task, data, checkpoints, tmp_path, capsys):
    section, score = SCORE[task]
    common = [arguments(task, data, tmp_path)[0], str(checkpoints[task]), *arguments(task, data, tmp_path)[1:]]
    limited = ['--severities', '2', '5', '--corruption-limit', '3']
    assert run_test([*common, '--corruptions', 'fog', '--per-image', *limited]) == 0
    record = tmp_path / 'corruptions.json'
    first = json.loads(record.read_text())
    assert list(first['cells']) == ['clean', 'fog_2', 'fog_5']

    # A cell that is there is not run again: what we write into it comes back.
    key = next(name for name in first['cells']['clean'] if name.endswith(score))
    scale = 100 if task == 'seg' else 1
    for cell in ('clean', 'fog_2', 'fog_5'):
        kept = read_per_image(tmp_path / 'per_image' / f'{cell}.npz')
        assert kept.value(np.ones((1, 3), int))[0] == pytest.approx(first['cells'][cell][key] / scale, abs=6e-4)
    for name, value in (('clean', 0.5), ('fog_2', 0.4), ('fog_5', 0.2)):
        first['cells'][name][key] = value * scale
    record.write_text(json.dumps(first))
    assert run_test([*common, '--corruptions', 'fog', 'contrast', *limited]) == 0
    results = json.loads((tmp_path / 'results.json').read_text())
    validate(results)
    found = results[section]['corruption']
    assert (found['images'], found['kinds'], found['severities']) == (3, ['fog', 'contrast'], [2, 5])
    assert (found[score]['P'], found[score]['cells']['fog']) == (0.5, [0.4, 0.2])
    contrast = found[score]['cells']['contrast']
    assert found[score]['mPC'] == pytest.approx((0.6 + sum(contrast)) / 4)
    assert found[score]['rPC_pct'] == pytest.approx(100 * found[score]['mPC'] / 0.5)
    assert (tmp_path / 'corruptions.png').read_bytes()[:4] == b'\x89PNG'
    assert '| fog | 40.0 | 20.0 | 30.0 |' in (tmp_path / 'corruptions.md').read_text()

    capsys.readouterr()
    assert run_test([*common, '--corruptions', 'fog', '--corruption-limit', '2']) == 1
    assert f"'{record}' holds results of another test (" in capsys.readouterr().err


@pytest.mark.slow
def test_predictions_pictures_and_augmentation_at_test_time(data, checkpoints, tmp_path, capsys):
    config = tmp_path / 'tta.py'
    config.write_text(
        f"_base_ = '{ROOT / 'downstream_configs' / CONFIGS['seg']}'\n"
        "tta_model = dict(type='SegTTAModel')\n"
        "load = dict(type='LoadAnnotations', reduce_zero_label=True)\n"
        "resize = dict(type='Resize', scale=(96, 96), keep_ratio=True)\n"
        "steps = [[resize], [dict(type='RandomFlip', prob=0.0)], [load], [dict(type='PackSegInputs')]]\n"
        "tta_pipeline = [dict(type='LoadWholeImage'), dict(type='TestTimeAug', transforms=steps)]\n"
    )
    common = [str(checkpoints['seg']), *arguments('seg', data, tmp_path)[1:]]
    plain, augmented = tmp_path / 'plain.json', tmp_path / 'tta.json'
    assert run_test([str(config), *common, '--out', str(plain), '--show-dir', str(tmp_path / 'pictures')]) == 0
    assert len(list((tmp_path / 'pictures').glob('*.png'))) == 1
    assert run_test([str(config), *common, '--out', str(augmented), '--tta']) == 0
    scores = [json.loads(file.read_text())['segmentation'] for file in (plain, augmented)]
    assert scores[0]['mIoU'] == scores[1]['mIoU'] > 0

    command = [arguments('mask', data, tmp_path)[0], str(checkpoints['mask']), *arguments('mask', data, tmp_path)[1:]]
    assert run_test([*command, '--out', str(tmp_path / 'found.pkl')]) == 0
    predictions = load(tmp_path / 'found.pkl')
    assert len(predictions) == 4
    assert {'bboxes', 'masks'} <= set(predictions[0]['pred_instances'])
    assert json.loads((tmp_path / 'results.json').read_text())['detection']['images'] == 4
    assert [path.name for path in tmp_path.glob('.*')] == []

    mistakes = {
        ('--out', 'found.txt'): "--out 'found.txt' has no known ending",
        ('--tta',): 'has no tta_model and no tta_pipeline',
        ('--corruptions', 'fogg'): "corruption 'fogg' is unknown",
        ('--corruptions', 'fog', '--corruption-limit', '0'): '--corruption-limit is 0',
        ('--corruptions', 'fog', '--severities', '6'): 'severity 6 is unknown',
    }
    for more, message in mistakes.items():
        capsys.readouterr()
        assert run_test([*command, *more]) == 1
        assert message in capsys.readouterr().err
    other = [command[0], str(checkpoints['seg']), *command[2:]]
    assert run_test(other) == 1
    assert 'test it with the config it was trained with' in capsys.readouterr().err


def test_corrupt_sees_rgb_and_depends_on_seed_and_image_alone():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)

    def corrupted(kind='shot_noise', severity=3, seed=0, **names):
        return Corrupt(kind, severity, seed)(dict(img=image.copy(), img_path='a/x.jpg', **names))['img']

    assert (corrupted(severity=0) == image).all()
    expected = corrupt(image[None, ..., ::-1], 'shot_noise', 3, [(0, 7)])[0, ..., ::-1]
    assert (corrupted(img_id=7) == expected).all()
    # Saturation mixes the channels: in the wrong order it gives other grey levels.
    expected = corrupt(image[None, ..., ::-1], 'saturate', 3, [0])[0, ..., ::-1]
    assert (corrupted('saturate') == expected).all()
    assert (corrupt(image[None], 'saturate', 3, [0])[0] != expected).any()
    assert (corrupted() == corrupted()).all()
    assert (corrupted(img_id=8) != corrupted(img_id=7)).any()
    assert (corrupted(seed=1) != corrupted(seed=0)).any()
    small = dict(img=image[:31], img_path='a/x.jpg')
    with pytest.raises(ValueError, match=r"image 'a/x\.jpg' cannot be corrupted: images of 31x50"):
        Corrupt('fog', 1)(small)
    with pytest.raises(ValueError, match="corruption 'fogg' is unknown"):
        Corrupt('fogg', 1)


def test_corrupt_comes_after_loading_and_before_the_rest():
    steps = [dict(type='LoadAnnotations'), dict(type='mmseg.LoadImageFromFile'), dict(type='Resize')]
    found = [step['type'] for step in insert_corrupt(steps, seed=0)]
    assert found == ['LoadAnnotations', 'mmseg.LoadImageFromFile', 'mmengine.Corrupt', 'Resize']
    with pytest.raises(ValueError, match='has no step'):
        insert_corrupt([dict(type='LoadAnnotations')], seed=0)
    assert choose_kinds(['benchmark']) == KINDS
    assert choose_kinds(['noise', 'fog', 'weather'])[:5] == (*KINDS[:3], 'fog', 'snow')
    assert len(choose_kinds(['all'])) == 19


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_both_frameworks_find_corrupt(scope):
    registry = __import__(f'{scope}.registry', fromlist=['TRANSFORMS']).TRANSFORMS
    step = registry.build(dict(type='mmengine.Corrupt', kind='fog', severity=1))
    assert type(step) is Corrupt


OWN = {
    mmdet: 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    mmseg: 'fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py',
}


@pytest.mark.parametrize('framework', OWN, ids=lambda framework: framework.__name__)
def test_frameworks_own_configs_work_beside_ours(framework):
    """In one process, after backbones.openmmlab has been imported."""
    scope = framework.__name__
    config = Config.fromfile(Path(framework.__file__).parent / '.mim' / 'configs' / OWN[framework])
    meta = dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64), scale_factor=(1.0, 1.0))
    sample = (DetDataSample if framework is mmdet else SegDataSample)(metainfo=meta)
    with DefaultScope.overwrite_default_scope(scope), torch.no_grad():
        model = MODELS.build(config.model).eval()
        found = model.test_step(dict(inputs=[torch.zeros(3, 64, 64, dtype=torch.uint8)], data_samples=[sample]))[0]
        step = TRANSFORMS.build(dict(type='LoadAnnotations'))
    assert type(model.backbone).__module__ == f'{scope}.models.backbones.resnet'
    assert type(step).__module__ == f'{scope}.datasets.transforms.loading'
    if framework is mmdet:
        assert found.pred_instances.bboxes.shape[1] == 4
    else:
        assert found.pred_sem_seg.data.shape == (1, 64, 64)


@pytest.mark.slow
def test_training_options_and_mistakes(data, tmp_path, capsys):
    command = [*arguments('seg', data, tmp_path / 'work'), '--amp', *options('seg', 1)]
    if not torch.cuda.is_available():
        assert train(command) == 1
        assert '--amp needs an accelerator' in capsys.readouterr().err
    assert train([*arguments('seg', data, tmp_path / 'work'), '--auto-scale-lr', *options('seg', 1)]) == 0
    rate = torch.load(tmp_path / 'work' / 'iter_1.pth', weights_only=True)['optimizer']['param_groups'][0]
    # Half the batch that the config's learning rate is for.
    lr = Config.fromfile(ROOT / 'downstream_configs' / CONFIGS['seg']).optim_wrapper.optimizer.lr
    assert rate['initial_lr'] == pytest.approx(0.5 * lr)


def test_cost_of_each_part(tmp_path):
    """Box heads by hand: on 200 proposals, three stages of two fully connected layers and two outputs."""
    config = ROOT / 'downstream_configs' / CONFIGS['mask']
    settings = ['model.test_cfg.rpn.max_per_img=200', 'model.test_cfg.rcnn.max_per_img=50']
    found = get_flops(
        [str(config), '--shape', '64', '96', '--out', str(tmp_path / 'cost.json'), '--cfg-options', *settings]
    )
    assert found == 0
    result = json.loads((tmp_path / 'cost.json').read_text())
    parts = {part['name']: part for part in result['parts']}
    box = 200 * 3 * (64 * 49 * 128 + 128 * 128 + 128 * (10 + 1) + 128 * 4)
    # Two 3 × 3 convolutions on 14 × 14, one 2 × 2 transposed one onto 28 × 28, and a mask of each class.
    mask = 50 * 3 * (2 * 14 * 14 * 64 * 64 * 9 + 14 * 14 * 64 * 64 * 4 + 28 * 28 * 64 * 10)
    assert parts['roi_head']['gmacs'] == pytest.approx((box + mask) / 1e9)
    # The RPN: a 3 × 3 convolution, then 3 anchors' scores and boxes, on strides 4 to 32.
    cells = sum((64 // stride) * (96 // stride) for stride in (4, 8, 16, 32))
    assert parts['rpn_head']['gmacs'] == pytest.approx(cells * 64 * (64 * 9 + 3 * 5) / 1e9)
    assert result['gmacs'] == pytest.approx(sum(part['gmacs'] for part in parts.values()))


def test_cost_of_students_and_segmenters(tmp_path):
    out = tmp_path / 'cost.json'
    assert get_flops([str(ROOT / 'distill/configs/imagenet/deit-s_300e_imagenet.py'), '--out', str(out)]) == 0
    expected = count('deit_small_patch16_224')  # On the meta device, which counts fused attention.
    result = json.loads(out.read_text())
    assert (result['gmacs'], result['params_m']) == pytest.approx((expected.gmacs, expected.params))

    assert get_flops([str(ROOT / 'downstream_configs' / CONFIGS['seg']), '--out', str(out)]) == 0
    result = json.loads(out.read_text())
    auxiliary = next(part for part in result['parts'] if part['name'] == 'auxiliary_head')
    assert result['shape'] == [64, 64]
    assert auxiliary['params'] > 0 == auxiliary['gmacs']
    taught = ROOT / 'downstream_configs/distilled/deeplabv3_robust-resnet-dw_tiny_shapes-ade20k_from-resnest_cwd.py'
    assert get_flops([str(taught), '--out', str(out)]) == 0
    assert json.loads(out.read_text())['parts'] == result['parts']


def test_a_backbone_that_only_its_record_names_is_counted(tmp_path):
    (tmp_path / 'a.json').write_text('{"model": "resnet18", "model_kwargs": {"num_classes": 3}}')
    backbone = dict(type='TimmBackbone', checkpoint=str(tmp_path / 'a.pth'))
    without_weights(dict(backbone=backbone))
    assert backbone == dict(type='TimmBackbone', model='resnet18', num_classes=3, checkpoint=None)


@pytest.mark.parametrize('task', ['mask', 'seg', 'student'])
def test_browsed_pictures_show_ground_truth_or_views(task, data, shapes, tmp_path):
    if task == 'student':
        command = [str(ROOT / 'distill/configs/shapes/robust-resnet-tiny_shapes.py'), '--data-root', str(shapes)]
    else:
        command = arguments(task, data, tmp_path)
    assert browse_dataset([*command, '--output-dir', str(tmp_path / 'out'), '--number', '2']) == 0
    pictures = [np.array(Image.open(path)) for path in sorted((tmp_path / 'out').glob('*.png'))]
    assert len(pictures) == 2
    for picture in pictures:
        assert picture.shape[0] >= 320
        count = 4 if task == 'student' else 2
        width = (picture.shape[1] + 8) // count
        first, second = picture[:, : width - 8], picture[:, width : 2 * width - 8]
        assert (first != second).any()
        if task != 'student':
            # Ground truth covers a part of the scene, and leaves the rest as it is.
            assert 0.02 < (first != second).any(axis=2).mean() < 0.8


def test_printed_config_is_a_config(tmp_path, capsys):
    config = ROOT / 'downstream_configs' / CONFIGS['seg']
    out = tmp_path / 'whole.py'
    assert print_config([str(config), '--out', str(out), '--cfg-options', 'model.decode_head.channels=7']) == 0
    printed = capsys.readouterr().out
    assert out.read_text() in printed
    assert '_base_ = ' not in printed
    expected = Config.fromfile(config)
    expected.model.decode_head.channels = 7
    expected.update(work_dir=f'work_dirs/{config.stem}', launcher='none')
    assert Config.fromfile(out).to_dict() == expected.to_dict()
    assert print_config([str(config), '--out', str(tmp_path / 'whole.txt')]) == 1
