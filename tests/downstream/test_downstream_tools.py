"""Detectors and segmenters through the command lines: exact resumption, several processes, corruption, wrong data."""

import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pycocotools.mask
import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import backbones.openmmlab  # noqa: F401 - before anything imports mmcv's operators

# isort: split
import mmdet
import mmseg
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
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
from distill.downstream.checks.sample import CheckSample, check_samples
from distill.downstream.corruption import insert_corrupt
from distill.downstream.seeding import NumberedBatches
from distill.downstream.transforms import Corrupt
from distill.results.schema import validate
from distill.robustness.corruptions import KINDS, corrupt
from distill.synthetic.ade20k import write_ade20k
from distill.synthetic.coco import write_coco

ROOT = Path(__file__).parents[2]
CONFIGS = {
    'det': 'cascade_rcnn/cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco.py',
    'mask': 'cascade_rcnn/cascade-mask-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco.py',
    'seg': 'deeplabv3/deeplabv3_robust-resnet-dw_tiny_shapes-ade20k.py',
}
LENGTH = {'det': 'train_cfg.max_epochs={} param_scheduler.1.T_max=2', 'seg': 'train_cfg.max_iters={}'}
LENGTH['mask'] = LENGTH['det']


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """Eight training and four validation scenes of 64 pixels in both layouts."""
    root = tmp_path_factory.mktemp('scenes')
    for write, name in ((write_coco, 'coco'), (write_ade20k, 'ade20k')):
        write(root / name, size=64, train=8, val=4)
    return root


def arguments(task: str, data: Path, work_dir: Path) -> list[str]:
    """The command line that the tools have in common."""
    folder = data / ('ade20k' if task == 'seg' else 'coco')
    return [str(ROOT / 'downstream_configs' / CONFIGS[task]), '--data-root', str(folder), '--work-dir', str(work_dir)]


def options(task: str, length: int, *more: str) -> list[str]:
    """Settings of a run of two batches of four images an epoch."""
    settings = [*LENGTH[task].format(length).split(), 'train_dataloader.batch_size=4', 'visualizer.vis_backends=[]']
    settings += ['train_cfg.val_interval=100', 'default_hooks.checkpoint.interval=1']
    return ['--cfg-options', *settings, *more]


WORKERS = ['train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=True']
DROP_PATH = 'model.backbone.drop_path_rate=0.3'


MID_EPOCH = 'default_hooks.checkpoint.by_epoch=False'


@pytest.mark.slow
@pytest.mark.parametrize(
    ('task', 'length', 'stop', 'end', 'more'),
    [
        ('mask', 2, 'epoch_1', 'epoch_2', []),
        # In the middle of the second epoch of two batches.
        ('det', 2, 'iter_3', 'iter_4', [MID_EPOCH]),
        ('seg', 5, 'iter_3', 'iter_5', []),
    ],
)
def test_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(task, length, stop, end, more, data, tmp_path):
    more = [*more, *WORKERS, DROP_PATH, 'default_hooks.checkpoint.max_keep_ckpts=9']
    assert train([*arguments(task, data, tmp_path / 'whole'), *options(task, length, *more)]) == 0
    (tmp_path / 'stopped').mkdir()
    shutil.copy(tmp_path / 'whole' / f'{stop}.pth', tmp_path / 'stopped')
    # What a sample looks like must not depend on the worker that makes it either.
    more = [option for option in more if option not in WORKERS] if task == 'seg' else more
    assert train([*arguments(task, data, tmp_path / 'stopped'), '--resume', *options(task, length, *more)]) == 0
    start, whole, resumed = (
        torch.load(tmp_path / file, weights_only=True)['state_dict']
        for file in (f'whole/{stop}.pth', f'whole/{end}.pth', f'stopped/{end}.pth')
    )
    assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
    assert any(not torch.equal(whole[key], start[key]) for key in whole)


def test_endless_sampler_goes_on_without_loading_the_past():
    indices = list(range(7))
    whole = NumberedBatches(InfiniteSampler(indices, seed=3), batch_size=2)
    expected = list(itertools.islice(whole, 9))
    resumed = NumberedBatches(InfiniteSampler(indices, seed=3), batch_size=2)
    resumed.iteration = resumed.skip = 5
    assert list(itertools.islice(resumed, 4)) == expected[5:]
    assert [batch[0][1] for batch in expected] == list(range(9))


RECORDER = """
import json
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RecordHook(Hook):
    steps = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        images = [sample.img_path for sample in data_batch['data_samples']]
        self.steps.append([images, outputs['loss'].item()])

    def after_train(self, runner):
        path = f'{runner.work_dir}/steps_{runner.rank}.json'
        with open(path, 'w') as file:
            json.dump(self.steps, file)
"""
SEGMENTER = """
norm_cfg = dict(type='GN', num_groups=8, requires_grad=True)
heads = dict(norm_cfg=norm_cfg, dropout_ratio=0, loss_decode=dict(avg_non_ignore=False))
model = dict(backbone=dict(norm_eval=True), decode_head=heads, auxiliary_head=heads)
"""


@pytest.mark.slow
@pytest.mark.parametrize('task', ['det', 'seg'])
def test_two_processes_train_as_one_with_the_doubled_batch(task, data, tmp_path):
    """Batch norms keep their statistics, and the losses are means over what is the same number in each process."""
    (tmp_path / 'recorder.py').write_text(RECORDER)
    config = tmp_path / f'{task}.py'
    config.write_text(
        f"_base_ = '{ROOT / 'downstream_configs' / CONFIGS[task]}'\n"
        "custom_imports = dict(imports=[*_base_.custom_imports.imports, 'recorder'])\n"
        "custom_hooks = [dict(type='RecordHook')]\n" + ('' if task == 'det' else SEGMENTER)
    )
    path = os.pathsep.join([str(ROOT), str(tmp_path), os.environ.get('PYTHONPATH', '')])
    environment = {**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'}
    steps = {}
    for processes in (1, 2):
        work_dir = tmp_path / str(processes)
        command = [*LAUNCH, f'--nproc_per_node={processes}', f'--master_port={free_port()}', ROOT / 'tools/train.py']
        command += [config, *arguments(task, data, work_dir)[1:], '--launcher', 'pytorch']
        more = [f'train_dataloader.batch_size={4 // processes}', 'model.backbone.norm_eval=True']
        command += options(task, 1 if task == 'det' else 2, *more)
        done = subprocess.run(list(map(str, command)), env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        steps[processes] = [json.loads((work_dir / f'steps_{rank}.json').read_text()) for rank in range(processes)]
    (one,), two = steps[1], steps[2]
    assert len(one) == len(two[0]) == len(two[1]) == 2
    for number, (images, _) in enumerate(one):
        assert sorted(images) == sorted(two[0][number][0] + two[1][number][0])
    assert len({image for images, _ in one for image in images}) == 8
    assert one[0][1] == pytest.approx((two[0][0][1] + two[1][0][1]) / 2, abs=1e-4)
    assert abs(two[0][0][1] - two[1][0][1]) > 1e-4


LAUNCH = [sys.executable, '-m', 'torch.distributed.run']


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return server.getsockname()[1]


@pytest.fixture(scope='module')
def checkpoints(data, tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of a few steps for each task; what it finds does not matter."""
    found = {}
    for task in ('mask', 'seg'):
        work_dir = tmp_path_factory.mktemp(task)
        assert train([*arguments(task, data, work_dir), *options(task, 1)]) == 0
        found[task] = next(work_dir.glob('*_1.pth'))
    return found


SCORE = {'mask': ('detection', 'segm_mAP'), 'seg': ('segmentation', 'mIoU')}


@pytest.mark.slow
@pytest.mark.parametrize('task', ['mask', 'seg'])
def test_corruption_benchmark_goes_on_where_it_stopped(task, data, checkpoints, tmp_path, capsys):
    section, score = SCORE[task]
    common = [arguments(task, data, tmp_path)[0], str(checkpoints[task]), *arguments(task, data, tmp_path)[1:]]
    limited = ['--severities', '2', '5', '--corruption-limit', '3']
    assert run_test([*common, '--corruptions', 'fog', *limited]) == 0
    record = tmp_path / 'corruptions.json'
    first = json.loads(record.read_text())
    assert list(first['cells']) == ['clean', 'fog_2', 'fog_5']

    # A cell that is there is not run again: what we write into it comes back.
    key = next(name for name in first['cells']['clean'] if name.endswith(score))
    scale = 100 if task == 'seg' else 1
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
    assert rate['initial_lr'] == pytest.approx(0.5 * 2e-3)


def drop_image(root: Path) -> str:
    path = sorted((root / 'train2017').iterdir())[-1]
    path.unlink()
    return f"'{path}' (1 such), which does not exist"


def drop_label_map(root: Path) -> str:
    path = sorted((root / 'annotations' / 'training').iterdir())[-1]
    path.unlink()
    return f"'{path}' (1 such), which does not exist"


def rename_class(root: Path) -> str:
    path = root / 'annotations' / 'instances_train2017.json'
    path.write_text(path.read_text().replace('"bolt"', '"nut"'))
    return f"annotations '{path}' lack the class 'bolt' (1 such) of the training set; they have arrow, nut, circle"


def lose_objects(root: Path) -> str:
    path = root / 'annotations' / 'instances_train2017.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'annotations': []}))
    return f"data set '{path}' has no image with an object of the classes arrow, bolt"


def cut_annotations(root: Path) -> str:
    path = root / 'annotations' / 'instances_val2017.json'
    path.write_text(path.read_text()[:-9])
    return f"annotations '{path}' are no whole JSON file"


def encode_mask(root: Path) -> str:
    path = root / 'annotations' / 'instances_train2017.json'
    content = json.loads(path.read_text())
    encoded = pycocotools.mask.encode(np.ones((32, 64), np.uint8, order='F'))
    content['annotations'][0]['segmentation'] = {'size': [32, 64], 'counts': encoded['counts'].decode()}
    path.write_text(json.dumps(content))
    return f"annotations '{path}' have a mask of 32×64 pixels (height × width) for the image"


def shrink_image(root: Path) -> str:
    path = sorted((root / 'train2017').iterdir())[0]
    Image.open(path).resize((64, 32)).save(path)
    return f"image '{path}' has 32×64 pixels (height × width) but its annotations are for 64×64 pixels"


def shrink_label_map(root: Path) -> str:
    path = sorted((root / 'annotations' / 'training').iterdir())[0]
    Image.open(path).resize((64, 32)).save(path)
    return f"label map '{path}' has 32×64 pixels (height × width) and its image"


def raise_label(root: Path) -> str:
    path = sorted((root / 'annotations' / 'validation').iterdir())[0]
    labels = np.array(Image.open(path))
    labels[3, :5] = 11
    Image.fromarray(labels).save(path)
    return f"label map '{path}' has label 10 (5 pixels) but the model has 10 classes, 0 to 9"


BOX_HEADS = [f'model.roi_head.bbox_head.{i}.num_classes=7' for i in range(3)]
WRONG_DATA = [
    ('det', drop_image, []),
    ('det', rename_class, []),
    ('det', lose_objects, []),
    ('det', shrink_image, []),
    ('det', cut_annotations, []),
    ('mask', encode_mask, []),
    (
        'det',
        'the training set has 10 classes (arrow, bolt, circle, crescent, …) and model.roi_head.bbox_head.0',
        BOX_HEADS,
    ),
    ('seg', drop_label_map, []),
    ('seg', shrink_label_map, []),
    ('seg', raise_label, []),
    ('seg', 'model.auxiliary_head has 7; set its num_classes=10', ['model.auxiliary_head.num_classes=7']),
    (
        'seg',
        'RandomCrop.crop_size (7, 96) is smaller than the largest stride of the backbone, 8',
        ['train_dataloader.dataset.pipeline.4.crop_size=(7,96)'],
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(('task', 'spoil', 'settings'), WRONG_DATA)
def test_wrong_data_is_one_line_before_training(task, spoil, settings, data, tmp_path, capsys):
    shutil.copytree(data, tmp_path / 'data')
    folder = tmp_path / 'data' / ('ade20k' if task == 'seg' else 'coco')
    message = spoil if isinstance(spoil, str) else spoil(folder)
    settings = [*settings, 'log_level=ERROR']
    assert train([*arguments(task, tmp_path / 'data', tmp_path / 'work'), *options(task, 1, *settings)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_all_samples_of_a_small_set_are_checked_before_training():
    class Labels:
        pipeline = SimpleNamespace(transforms=[CheckSample(num_classes=2)])

        def __len__(self) -> int:
            return 100

        def get_data_info(self, index: int) -> dict:
            labels = np.full((2, 2), 2 if index == 57 else 0)
            return dict(ori_shape=(2, 2), gt_seg_map=labels, img_path='a.jpg', seg_map_path=f'{index}.png')

    with pytest.raises(ValueError, match=r"label map '57\.png' has label 2"):
        check_samples(Labels())


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
    assert result['shape'] == [96, 96]
    assert auxiliary['params'] > 0 == auxiliary['gmacs']


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
    assert Config.fromfile(out).to_dict() == expected.to_dict()
    assert print_config([str(config), '--out', str(tmp_path / 'whole.txt')]) == 1
