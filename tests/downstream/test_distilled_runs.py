"""Runs that distil detectors and segmenters: without a weight, resumed, of packaged configs, and what they leave."""

import json
import shutil
from pathlib import Path

import mmdet
import mmseg
import pytest
import torch
from distilled_runs import TEACHERS, save_teacher, write_config
from downstream_runs import CONFIGS, FOLDER, arguments, options
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from distill.cli.test import main as run_test
from distill.cli.train import main as train
from distill.downstream.inference import load_scene_model

ONE_PROCESS = ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
ONE_PROCESS += ['val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False']
EVERY_EPOCH = ['default_hooks.checkpoint.max_keep_ckpts=9']
DROP_PATH = 'model.student.backbone.drop_path_rate=0.3'


@pytest.fixture(scope='module')
def teachers(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('teachers')
    return {task: save_teacher(FOLDER / TEACHERS[task], folder / f'{task}.pth') for task in ('det', 'seg')}


def command(config: Path, task: str, data: Path, work_dir: Path) -> list[str]:
    return [str(config), *arguments(task, data, work_dir)[1:]]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)['state_dict']


@pytest.fixture(scope='module')
def whole(data, teachers, tmp_path_factory) -> tuple[Path, list[str], Path]:
    """A detector that has learned from its teacher for two epochs of two steps: work directory, settings and config."""
    folder = tmp_path_factory.mktemp('whole')
    config = write_config('det', folder, teachers['det'], more="custom_hooks = [dict(type='EMAHook', momentum=0.1)]\n")
    more = [*ONE_PROCESS, *EVERY_EPOCH, DROP_PATH, 'default_hooks.checkpoint.by_epoch=False']
    settings = options('det', 2, *more, 'train_cfg.val_interval=1')
    assert train([*command(config, 'det', data, folder / 'run'), *settings]) == 0
    return folder / 'run', settings, config


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(whole, data, tmp_path):
    work_dir, settings, config = whole
    shutil.copy(work_dir / 'iter_3.pth', tmp_path)
    assert train([*command(config, 'det', data, tmp_path), '--resume', *settings]) == 0
    first, expected, found = (
        torch.load(path, weights_only=True)
        for path in (work_dir / 'iter_3.pth', work_dir / 'iter_4.pth', tmp_path / 'iter_4.pth')
    )
    expected_weights, found_weights = expected['state_dict'], found['state_dict']
    assert [name for name, value in expected_weights.items() if not torch.equal(value, found_weights[name])] == []
    trained = [name for name in expected_weights if name.startswith('distillation.')]
    assert trained
    assert not any(torch.equal(first['state_dict'][name], expected_weights[name]) for name in trained)


@pytest.mark.slow
@pytest.mark.parametrize('task', ['det', 'seg'])
def test_a_run_without_weight_is_the_plain_run_bit_for_bit(task, data, teachers, tmp_path):
    losses = [dict(type='l2', on='backbone', weight=0.0), dict(type='cwd', on='backbone', schedule=((9, 0.0), (99, 1)))]
    config = write_config(task, tmp_path, teachers[task], losses)
    length, end = (1, 'epoch_1.pth') if task == 'det' else (2, 'iter_2.pth')
    # Nothing of this project's that would seed each step anew.
    more = [*ONE_PROCESS, 'default_hooks.seed_iteration=None', 'default_hooks.seed_samples=None']
    for name, path, prefix in (('plain', FOLDER / CONFIGS[task], 'model'), ('taught', config, 'model.student')):
        settings = options(task, length, *more, f'{prefix}.backbone.drop_path_rate=0.3')
        assert train([*command(path, task, data, tmp_path / name), *settings]) == 0
    plain, taught = weights(tmp_path / 'plain' / end), weights(tmp_path / 'taught' / end)
    alone = weights(tmp_path / 'taught' / 'student_last.pth')
    assert plain.keys() == alone.keys() < taught.keys()
    assert [name for name, value in plain.items() if not torch.equal(value, alone[name])] == []


def test_the_saved_students_are_plain_ones_of_their_own_config(whole, data, tmp_path):
    work_dir, _, _ = whole
    plain = Config.fromfile(FOLDER / CONFIGS['det'], format_python_code=False)
    with DefaultScope.overwrite_default_scope('mmdet'):
        network = MODELS.build(plain.model)
    (best,) = work_dir.glob('best_coco_bbox_mAP_*.pth')
    for path in (work_dir / 'student_last.pth', best):
        content = torch.load(path, weights_only=True)
        network.load_state_dict(content['state_dict'], strict=True)
        assert len(content['meta']['dataset_meta']['classes']) == 10
        assert content['meta']['teacher']['checkpoint'].endswith('det.pth')
        line = command(FOLDER / CONFIGS['det'], 'det', data, tmp_path / path.stem)
        assert run_test([line[0], str(path), *line[1:], '--cfg-options', *ONE_PROCESS]) == 0
    # What was validated is saved: the average.
    newest = weights(work_dir / 'iter_4.pth')
    assert all(torch.equal(newest[name], value) for name, value in weights(work_dir / 'student_last.pth').items())


def test_tests_and_predictions_with_the_config_need_no_teacher(whole, data, tmp_path):
    work_dir, _, config = whole
    lost = tmp_path / config.name
    lost.write_text(config.read_text().replace("checkpoint='", "checkpoint='/lost"))
    scores = []
    for checkpoint in ('iter_4.pth', 'student_last.pth'):
        folder = tmp_path / checkpoint
        line = [*command(lost, 'det', data, folder), '--cfg-options', *ONE_PROCESS]
        assert run_test([line[0], str(work_dir / checkpoint), *line[1:]]) == 0
        section = json.loads((folder / 'results.json').read_text())['detection']
        scores.append({key: value for key, value in section.items() if key != 'checkpoint'})
    assert scores[0] == scores[1]
    scene = load_scene_model(work_dir / 'student_last.pth', lost, 'cpu')
    assert type(scene.network).__name__ == 'CascadeRCNN'
    assert not hasattr(scene.network, 'distillation')


def test_a_teacher_equal_to_the_student_is_refused(data, tmp_path, capsys, teachers):
    config = tmp_path / 'self.py'
    config.write_text(
        f"_base_ = '{FOLDER / TEACHERS['det']}'\n"
        "model = dict(_delete_=True, type='DenseDistiller', student=_base_.model, losses=[dict(type='pkd')],\n"
        f"    teacher=dict(config='{FOLDER / TEACHERS['det']}', checkpoint='{teachers['det']}'))\n"
        f"load_from = '{teachers['det']}'\n"
    )
    assert train([*command(config, 'det', data, tmp_path / 'run'), *options('det', 1, *ONE_PROCESS)]) != 0
    said = capsys.readouterr()
    assert 'has the very weights that the student begins with' in said.err
    assert 'Traceback' not in said.err


@pytest.mark.slow
@pytest.mark.parametrize('others', [False, True])
def test_classes_are_matched_by_name_and_others_refused(others, data, tmp_path, capsys, teachers):
    content = torch.load(teachers['seg'], weights_only=True)
    classes = [*CLASSES[:8], 'land', 'sea'] if others else [*reversed(CLASSES)]
    content['meta'] = dict(dataset_meta=dict(classes=classes))
    torch.save(content, tmp_path / 'teacher.pth')
    config = write_config('seg', tmp_path, tmp_path / 'teacher.pth', [dict(type='pixel_kl', on='logits')])
    settings = options('seg', 1, *ONE_PROCESS)
    ended = train([*command(config, 'seg', data, tmp_path / 'run'), *settings])
    said = capsys.readouterr().err
    assert ended == int(others)
    assert ('loss pixel_kl compares classes: the training set' in said) == others
    assert ('has star, triangle besides' in said) == others
    assert 'Traceback' not in said


CLASSES = ('arrow', 'bolt', 'circle', 'crescent', 'cross', 'heart', 'hourglass', 'square', 'star', 'triangle')
PACKAGED = {
    'faster': (mmdet, 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'),
    'retina': (mmdet, 'retinanet/retinanet_r50_fpn_1x_coco.py'),
    'pspnet': (mmseg, 'pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py'),
}
DETECTOR = """
student.backbone.update(depth=18, base_channels=8, init_cfg=None)
student.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
val_evaluator = dict(ann_file='{data}/annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=9)
"""
SEGMENTER = """
norm = dict(type='BN', requires_grad=True)
student.update(pretrained=None)
student.data_preprocessor.update(size=(64, 64))
student.backbone.update(depth=18, base_channels=8, norm_cfg=norm)
student.decode_head.update(in_channels=64, channels=16, num_classes=10, norm_cfg=norm)
student.auxiliary_head.update(in_channels=32, channels=16, num_classes=10, norm_cfg=norm)
train_cfg = dict(max_iters=2, val_interval=9)
"""
SMALLER = {
    'faster': DETECTOR
    + """
student.rpn_head.update(in_channels=16, feat_channels=16)
student.roi_head.bbox_roi_extractor.update(out_channels=16)
student.roi_head.bbox_head.update(in_channels=16, fc_out_channels=16, num_classes=10)
""",
    'retina': DETECTOR + 'student.bbox_head.update(in_channels=16, feat_channels=16, num_classes=10)\n',
    'pspnet': SEGMENTER,
}
"""What makes a packaged model small enough for a test; nothing of it is needed to distil."""


@pytest.mark.slow
@pytest.mark.parametrize('name', PACKAGED)
def test_packaged_configs_distil_with_their_model_wrapped(name, data, teachers, tmp_path):
    framework, path = PACKAGED[name]
    task = 'det' if framework is mmdet else 'seg'
    root = data / ('coco' if task == 'det' else 'ade20k')
    kind = dict(type='BaseSegDataset', reduce_zero_label=True) if task == 'seg' else {}
    dataset = dict(**kind, data_root=str(root), metainfo=dict(classes=CLASSES))
    losses = [dict(type='pkd', weight=6.0)] if task == 'det' else [dict(type='cwd', on='backbone', weight=3.0)]
    config = tmp_path / f'{name}.py'
    config.write_text(
        f"_base_ = '{Path(framework.__file__).parent}/.mim/configs/{path}'\n"
        f'student = _base_.model\n{SMALLER[name].format(data=root)}'
        f"model = dict(_delete_=True, type='DenseDistiller', student=student, losses={losses},\n"
        f"    teacher=dict(config='{FOLDER / TEACHERS[task]}', checkpoint='{teachers[task]}'))\n"
        f'loader = dict(num_workers=0, persistent_workers=False, dataset=dict({dataset}))\n'
        'train_dataloader = dict(batch_size=4, **loader)\n'
        'val_dataloader = loader\ntest_dataloader = loader\nrandomness = dict(seed=0)\n'
    )
    # Images as small as the models.
    scale = 'train_dataloader.dataset.pipeline.2.scale=(64,64)'
    crop = ['train_dataloader.dataset.pipeline.3.crop_size=(64,64)'] if task == 'seg' else []
    settings = ['--cfg-options', scale, *crop, 'visualizer.vis_backends=[]']
    assert train([str(config), '--work-dir', str(tmp_path / 'run'), *settings]) == 0
    student = Config.fromfile(config).model.student
    with DefaultScope.overwrite_default_scope(framework.__name__):
        network = MODELS.build(student)
    network.load_state_dict(weights(tmp_path / 'run' / 'student_last.pth'), strict=True)
