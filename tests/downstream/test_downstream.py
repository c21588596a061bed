"""The detection and segmentation configs: all build, the small ones train and predict."""

import ast
import copy
import json
import uuid
from pathlib import Path

import pytest
import timm
import torch
from downstream_runs import LEAVES
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from backbones.checkpoint import save_model
from backbones.record import ModelRecord
from distill.synthetic.ade20k import write_ade20k
from distill.synthetic.coco import write_coco
from distill.training.experiment import move_data_root

SMALL = [path.stem for path in LEAVES if '_tiny_' in path.name]
# One detector and one segmenter of each family, and the two real data sets.
TRIED = [name for name in SMALL if '_shapes-' in name or '_robust-resnet-dw_' in name]
NAMES = {path: path.stem for path in LEAVES}
SIDE = 64
"""Pixels of the scenes' sides, at which the small models are tried."""


def depth(path: Path) -> int:
    """How many levels of `_base_` lie below a config."""
    for node in ast.parse(path.read_text().replace('{{', '"').replace('}}', '"')).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == '_base_':
            bases = ast.literal_eval(node.value)
            return 1 + max(depth(path.parent / base) for base in ([bases] if isinstance(bases, str) else bases))
    return 0


@pytest.mark.parametrize('path', LEAVES, ids=NAMES.get)
def test_config_says_how_to_use_it_and_builds(path, leaves):
    header = ast.get_docstring(ast.parse(path.read_text()))
    assert all(word in header for word in ('tools/train.py', 'Hardware: ', 'Cost: ', 'Target: '))
    assert depth(path) <= 3
    config = copy.deepcopy(leaves[path.stem])
    for name, loader in (('train', config.train_dataloader), ('val', config.val_dataloader)):
        assert loader.dataset.data_root == config.data_root, name
    if 'ann_file' in config.val_evaluator:
        assert config.val_evaluator.ann_file == f'{config.data_root}/{config.val_dataloader.dataset.ann_file}'
    if config.model.backbone.pop('pretrained', False):
        expected = timm.get_pretrained_cfg(config.model.backbone.model)
        for name in ('mean', 'std'):
            assert config.model.data_preprocessor[name] == pytest.approx([255 * x for x in getattr(expected, name)])
    model = build(config)
    assert model.backbone.strides == tuple(config.model.backbone.strides)
    assert f'Cost: {millions(model)} M parameters' in header
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    trained = {p for group in groups for p in group['params'] if p.requires_grad}
    assert trained == {p for p in model.parameters() if p.requires_grad}


def build(config: Config) -> torch.nn.Module:
    """The config's model, without storage."""
    registry = __import__(f'{config.default_scope}.registry', fromlist=['MODELS']).MODELS
    init_default_scope(config.default_scope)
    with torch.device('meta'):
        return registry.build(config.model)


def millions(model: torch.nn.Module) -> str:
    return f'{sum(p.numel() for p in model.parameters()) / 1e6:.1f}'


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    """Four small scenes in both layouts, and once more under the names of the blood cells."""
    root = tmp_path_factory.mktemp('scenes')
    for write, name in ((write_coco, 'coco'), (write_coco, 'bccd'), (write_ade20k, 'ade20k')):
        write(root / name, size=SIDE, train=2, val=2)
    for path in (root / 'bccd' / 'annotations').glob('*.json'):
        content = json.loads(path.read_text())
        content['categories'] = [{'id': i, 'name': name} for i, name in enumerate(('RBC', 'WBC', 'Platelets'), 1)]
        for annotation in content['annotations']:
            annotation['category_id'] = annotation['category_id'] % 3 + 1
        path.write_text(json.dumps(content))
    return root


@pytest.fixture
def small_config(leaves, scenes, tmp_path):
    """Make a small config, by its name, train one step on the scenes, as large as they are."""

    def make(name: str) -> Config:
        config = copy.deepcopy(leaves[name])
        folder = 'bccd' if 'bccd' in name else 'coco' if config.default_scope == 'mmdet' else 'ade20k'
        move_data_root(config, str(scenes / folder))
        config.work_dir = str(tmp_path)
        config.experiment_name = uuid.uuid4().hex
        config.launcher = 'none'
        config.log_level = 'WARNING'
        config.visualizer.vis_backends = []
        for loader in (config.train_dataloader, config.val_dataloader):
            for step in loader.dataset.pipeline:
                step.update({key: (SIDE, SIDE) for key in ('scale', 'crop_size') if key in step})
        config.train_dataloader.batch_size = 2
        if config.default_scope == 'mmseg':
            config.model.data_preprocessor.size = (SIDE, SIDE)
            config.train_cfg.update(max_iters=1, val_interval=1)
            config.default_hooks.checkpoint.interval = 1
        else:
            config.train_cfg.update(max_epochs=1, val_interval=1)
        return config

    return make


@pytest.mark.parametrize('name', TRIED)
def test_small_config_trains_a_step_and_predicts(name, small_config, tmp_path):
    runner = Runner.from_cfg(small_config(name))
    before = {name: p.detach().clone() for name, p in runner.model.backbone.named_parameters()}
    runner.train()
    assert runner.iter == 1
    # What stands before a norm that starts at 0 (a ResNet's last ones of its blocks) learns from the second step on.
    idle = tuple(name.rsplit('.', 2)[0] for name, p in before.items() if name.endswith('weight') and not p.any())
    same = [name for name, p in runner.model.backbone.named_parameters() if p.equal(before[name])]
    assert [name for name in same if not name.startswith(idle)] == []
    assert {p.suffix for p in tmp_path.iterdir()} >= {'.pth'}
    metrics = runner.message_hub.log_scalars
    expected = ['val/mIoU'] if runner.cfg.default_scope == 'mmseg' else ['val/coco/bbox_mAP']
    expected += ['val/coco/segm_mAP'] if '-mask-' in name else []
    assert all(0 <= metrics[score].current() <= 100 for score in expected)

    loader = runner.val_dataloader
    samples = [s for batch in loader for s in runner.model.eval().val_step(batch)]
    assert len(samples) == 2
    for sample in samples:
        if runner.cfg.default_scope == 'mmseg':
            assert sample.pred_sem_seg.data.shape == (1, SIDE, SIDE)
            assert sample.pred_sem_seg.data.max() < runner.cfg.model.decode_head.num_classes
        else:
            found = sample.pred_instances
            assert found.bboxes.shape == (len(found.scores), 4)
            assert ((found.bboxes >= 0) & (found.bboxes <= SIDE)).all()
            assert ('masks' in found) == ('-mask-' in name)


BOTH = ['cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco', 'deeplabv3_robust-resnet-dw_tiny_shapes-ade20k']


@pytest.mark.parametrize('name', BOTH)
def test_loaded_backbone_survives_training(name, small_config, tmp_path):
    config = small_config(name)
    arguments = {k: config.model.backbone[k] for k in ('dims', 'depths', 'patch_size', 'kernel_size')}
    student = timm.create_model('robust_resnet_dw_small', num_classes=10, **arguments)
    for p in student.parameters():
        torch.nn.init.normal_(p)
    description = {'model': 'robust_resnet_dw_small', 'model_kwargs': {**arguments, 'num_classes': 10}}
    save_model(tmp_path / 'student_best.pth', student, ModelRecord.from_json(description))
    # What a user does: the checkpoint instead of the model's name and arguments.
    for key in ('model', *arguments):
        del config.model.backbone[key]
    config.model.backbone.checkpoint = str(tmp_path / 'student_best.pth')
    config.optim_wrapper.optimizer.update(lr=0.0)
    runner = Runner.from_cfg(config)
    runner.train()
    expected = student.state_dict()
    found = dict(runner.model.backbone.net.named_parameters())
    assert len(found) > 20
    assert [key for key, p in found.items() if not p.equal(expected[key])] == []


@pytest.mark.parametrize('name', BOTH)
def test_stopped_training_goes_on(name, small_config, tmp_path):
    runner = Runner.from_cfg(small_config(name))
    runner.train()
    checkpoint = next(tmp_path.glob('*_1.pth'))
    weights = torch.load(checkpoint, weights_only=True)['state_dict']
    assert weights.keys() == runner.model.state_dict().keys()

    config = small_config(name)
    config.update(resume=True, load_from=str(checkpoint))
    config.train_cfg['max_iters' if config.default_scope == 'mmseg' else 'max_epochs'] = 2
    config.optim_wrapper.optimizer.lr = 0.0
    runner = Runner.from_cfg(config)
    runner.train()
    assert runner.iter == 2


def test_mark_in_the_last_rows_changes_the_segmentation(leaves):
    config = copy.deepcopy(leaves[BOTH[1]])
    init_default_scope('mmseg')
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample

    model = MODELS.build(config.model).eval()
    image = torch.zeros(3, 77, 70, dtype=torch.uint8)
    marked = image.clone()
    marked[:, -1:] = 255
    logits = []
    for x in (image, marked):
        meta = dict(img_shape=(77, 70), ori_shape=(77, 70), pad_shape=(77, 70))
        sample = model.test_step(dict(inputs=[x], data_samples=[SegDataSample(metainfo=meta)]))[0]
        logits.append(sample.seg_logits.data)
    assert logits[0].shape == (config.model.decode_head.num_classes, 77, 70)
    assert (logits[0][:, -1] != logits[1][:, -1]).any()


@pytest.mark.parametrize(
    'name', ['cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco', 'upernet_deit_tiny_shapes-ade20k']
)
def test_several_views_are_merged(name, small_config):
    config = small_config(name)
    config.model = dict(config.tta_model, module=config.model)
    config.test_dataloader.dataset.pipeline = config.tta_pipeline
    config.test_dataloader.batch_size = 1
    runner = Runner.from_cfg(config)
    scores = runner.test()
    assert {'coco/bbox_mAP', 'mIoU'} & scores.keys()
    batch = next(iter(runner.test_dataloader))
    assert len(batch['inputs']) == 6  # three sizes, each also mirrored
    merged = runner.model.eval().test_step(batch)[0]
    views = [runner.model.module.test_step({key: value[i] for key, value in batch.items()})[0] for i in range(6)]
    if runner.cfg.default_scope == 'mmseg':
        mean = sum(view.seg_logits.data.softmax(0) for view in views) / 6
        assert merged.pred_sem_seg.data.equal(mean.argmax(0, keepdim=True))
    else:
        assert merged.pred_instances.scores.max() == max(view.pred_instances.scores.max() for view in views)
        assert len(merged.pred_instances) <= sum(len(view.pred_instances) for view in views)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'steps', 'lr', 'goals'),
    [
        (
            'cascade-mask-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco',
            100,
            2e-3,
            {'val/coco/bbox_mAP': 0.8, 'val/coco/segm_mAP': 0.8},
        ),
        ('deeplabv3_robust-resnet-dw_tiny_shapes-ade20k', 80, 4e-3, {'val/mIoU': 90}),
    ],
)
def test_overfits_a_few_scenes(name, steps, lr, goals, small_config, tmp_path):
    write = write_coco if 'coco' in name else write_ade20k
    write(tmp_path / 'data', size=SIDE, train=3, val=1)
    config = small_config(name)
    move_data_root(config, str(tmp_path / 'data'))
    train, val = config.train_dataloader, config.val_dataloader
    # Always the same pictures, all in each step, and judged on them.
    varied = ('RandomFlip', 'RandomCrop', 'RandomResize')
    resize = next(step for step in val.dataset.pipeline if step.type == 'Resize')
    if 'coco' in name:
        resize.scale = (128, 128)  # Twice the scenes' size, as in the config: anchors fit.
    train.dataset.pipeline = [step for step in train.dataset.pipeline if step.type not in (*varied, 'Resize')]
    train.dataset.pipeline.insert(3, resize)
    train.batch_size = 3
    val.dataset.update({key: train.dataset[key] for key in ('ann_file', 'data_prefix') if key in train.dataset})
    if 'ann_file' in config.val_evaluator:
        config.val_evaluator.ann_file = f'{config.data_root}/{train.dataset.ann_file}'
    config.train_cfg.update({key: steps for key in ('max_epochs', 'max_iters') if key in config.train_cfg})
    config.train_cfg.val_interval = config.default_hooks.checkpoint.interval = steps
    config.param_scheduler[1].update({key: steps for key in ('T_max', 'end') if key in config.param_scheduler[1]})
    config.optim_wrapper.optimizer.lr = lr
    runner = Runner.from_cfg(config)
    runner.train()
    for score, goal in goals.items():
        assert runner.message_hub.get_scalar(score).current() >= goal, score
