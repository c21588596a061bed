"""The second OpenMMLab stack: each task trains a step, resumes and predicts (`make test` runs this file).

It needs the onedl packages in front of the others: ``PYTHONPATH=FOLDER pytest tests/smoke_onedl.py``.
"""

import json
from importlib.metadata import packages_distributions
from pathlib import Path

import mmcv
import mmdet
import mmengine
import mmseg
import pytest
import torch

from distill.synthetic.ade20k import write_ade20k
from distill.synthetic.coco import write_coco

CONFIGS = Path(__file__).parents[1]
ONE_PROCESS = ['train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False']
ONE_PROCESS += ['val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False', 'visualizer.vis_backends=[]']
STUDENT = ['model.student.dims=[8,8,16,16]', 'model.student.depths=[1,1,1,1]', 'train_dataloader.batch_size=8']
EPOCHS = ['train_cfg.max_epochs={}', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1']
ITERATIONS = ['train_cfg.max_iters={}', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=1']


@pytest.fixture(scope='session')
def data(shapes) -> dict[str, Path]:
    """The three embedded sets, a few images each."""
    root = shapes.parent
    write_coco(root / 'coco', size=64, train=4, val=2)
    write_ade20k(root / 'ade20k', size=64, train=4, val=2)
    return {'imagenet': shapes, 'coco': root / 'coco', 'ade20k': root / 'ade20k'}


def test_the_stack_is_onedl():
    folders = {Path(module.__file__).parents[1] for module in (mmengine, mmcv, mmdet, mmseg)}
    assert len(folders) == 1
    names = packages_distributions()
    assert all(any(n.startswith('onedl') for n in names[m]) for m in ('mmengine', 'mmcv', 'mmdet', 'mmseg'))


@pytest.mark.parametrize(
    ('config', 'kind', 'length', 'options', 'last', 'score'),
    [
        ('distill/configs/shapes/robust-resnet-tiny_shapes.py', 'imagenet', EPOCHS, STUDENT, 'epoch_2.pth', 'scores'),
        (
            'downstream_configs/cascade_rcnn/cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco.py',
            'coco',
            EPOCHS,
            ['train_dataloader.batch_size=2'],
            'epoch_2.pth',
            'detection',
        ),
        (
            'downstream_configs/deeplabv3/deeplabv3_robust-resnet-dw_tiny_shapes-ade20k.py',
            'ade20k',
            ITERATIONS,
            ['train_dataloader.batch_size=2'],
            'iter_2.pth',
            'segmentation',
        ),
    ],
)
def test_task_trains_resumes_and_predicts(run_tool, data, tmp_path, config, kind, length, options, last, score):
    common = [CONFIGS / config, '--work-dir', tmp_path, '--data-root', data[kind]]
    for steps in (1, 2):
        settings = [option.format(steps) for option in length] + options + ONE_PROCESS
        done = run_tool('train.py', *common, '--resume', '--cfg-options', *settings)
        assert done.returncode == 0, done.stderr[-3000:]
    assert 'resumed epoch: 1' in done.stdout + done.stderr or 'resumed epoch: 0, iter: 1' in done.stdout + done.stderr
    torch.load(tmp_path / last, weights_only=True)
    done = run_tool('test.py', common[0], 'auto', *common[1:], '--cfg-options', *options, *ONE_PROCESS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert score in json.loads((tmp_path / 'results.json').read_text())


def test_a_detector_learns_from_a_detector(run_tool, data, tmp_path):
    plain = CONFIGS / 'downstream_configs/cascade_rcnn/cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco.py'
    taught = tmp_path / 'taught.py'
    taught.write_text(
        f"_base_ = '{plain}'\n"
        "model = dict(_delete_=True, type='DenseDistiller', student=_base_.model,\n"
        f"    teacher=dict(checkpoint='{tmp_path}/teacher/epoch_1.pth'),\n"
        "    losses=[dict(type='pkd', weight=6.0), dict(type='mgd', strides=(8, 16), per_position=True)])\n"
    )
    settings = [*(option.format(1) for option in EPOCHS), 'train_dataloader.batch_size=2', *ONE_PROCESS]
    for config, name, seed in ((plain, 'teacher', 1), (taught, 'student', 0)):
        line = ['train.py', config, '--work-dir', tmp_path / name, '--data-root', data['coco']]
        done = run_tool(*line, '--cfg-options', *settings, f'randomness.seed={seed}')
        assert done.returncode == 0, done.stderr[-3000:]
    assert 'distill.loss_mgd' in done.stdout + done.stderr
    student = tmp_path / 'student' / 'student_last.pth'
    line = ['test.py', plain, student, '--work-dir', tmp_path / 'test', '--data-root', data['coco']]
    done = run_tool(*line, '--cfg-options', *ONE_PROCESS)
    assert done.returncode == 0, done.stderr[-3000:]
