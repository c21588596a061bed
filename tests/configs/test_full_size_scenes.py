"""Every COCO and ADE20K config loads a batch of images of these sets' sizes and makes a step with it, at its full size.

A step goes through the config's own loader, pipeline, preprocessor, networks, optimizer and schedules. Of all configs
it is made with tensors that have sizes and no contents: what looks at contents (boxes, regions, accuracies) is left
out. Of one of each recipe it is made whole, with images of an eighth of the size.
"""

import copy
import functools
from pathlib import Path

import pytest

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import backbones.openmmlab  # noqa: F401 - before anything imports mmcv's operators

# isort: split
import torch
from full_size import first_of, schedulers_of, write_ade20k, write_coco
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from distill.base.packaged import find
from distill.downstream.dense_inputs import ForTeacher
from distill.downstream.dense_teacher import describe, watch
from distill.downstream.dense_terms.base import Pass
from distill.downstream.dense_terms.build import build_terms
from distill.downstream.flops import without_weights
from distill.training.experiment import move_data_root

FOLDER = Path(__file__).parents[2] / 'downstream_configs'
LEAVES = {
    path.stem: path
    for kind in ('cascade_rcnn', 'deeplabv3', 'distilled')
    for path in sorted((FOLDER / kind).glob('*.py'))
    if 'tiny' not in path.stem
}
BOXES = [name for name in LEAVES if name.startswith('cascade-rcnn')]
DISTILLED = [name for name, path in LEAVES.items() if path.parent.name == 'distilled']
ALONE = [name for name in LEAVES if name not in DISTILLED]
WITH_CONTENTS = (
    'cascade-mask-rcnn_r50_fpn_4conv1fc-giou_ms-crop-3x_coco',
    'cascade-mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco',
    'deeplabv3plus_r50-d8_160k_ade20k-512x512',
    'upernet_deit-s_160k_ade20k-512x512',
)
"""One of each recipe, the smallest where there is a choice."""
DISTILLED_WITH_CONTENTS = (
    'cascade-mask-rcnn_robust-resnet-dw-s_fpn_1x_coco_from-convnext-t_pkd',
    'deeplabv3_robust-resnet-dw-s-d8_160k_ade20k-512x512_from-convnext-t_cwd',
)
SMALLER = 8
REGIONS = 32
"""Regions of an image that the heads of a detector learn from, in place of 512."""


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('full_size')
    write_coco(root / 'mmdet')
    write_ade20k(root / 'mmseg')
    return root


@functools.cache
def read(path: Path) -> Config:
    return Config.fromfile(path, format_python_code=False)


@pytest.fixture
def config(scenes):
    """A config by its path, with random weights and on the small sets."""

    def get(path: Path) -> Config:
        found = copy.deepcopy(read(path))
        move_data_root(found, str(scenes / found.default_scope))
        without_weights(found.model.get('student', found.model))
        return found

    return get


@pytest.fixture(scope='module')
def batches() -> dict:
    """First batches of loaders by what these are; configs of equal data share them."""
    return {}


def first_batch(settings: Config, batches: dict) -> dict:
    """The first batch of a config's loader."""
    key = repr(settings.train_dataloader.to_dict())
    if key not in batches:
        batches[key] = first_of(settings.train_dataloader, settings.default_scope)
    return copy.deepcopy(batches[key])


def built(model: dict, scope: str) -> nn.Module:
    """A model in training, for one process, without contents but in its preprocessor."""
    with DefaultScope.overwrite_default_scope(scope):
        with torch.device('meta'):
            network = revert_sync_batchnorm(MODELS.build(model)).train()
        network.data_preprocessor = MODELS.build(model['data_preprocessor'])
    return network


def raw_losses(model: nn.Module, inputs: torch.Tensor, samples: list) -> list[torch.Tensor]:
    """What all parameters of a model have a part in, without a look at contents.

    Args:
        model: A detector or segmenter.
        inputs: The batch.
        samples: Its data samples.

    Returns:
        Means of what the heads give, of whole maps in place of regions; of a segmenter its losses.
    """
    maps = model.extract_feat(inputs)
    if hasattr(model, 'rpn_head'):
        found = [output for outputs in model.rpn_head(maps) for output in outputs]
        boxes, masks = (sum(adaptive_avg_pool2d(level, side) for level in maps[:4]) for side in (7, 14))
        found += [output for head in model.roi_head.bbox_head for output in head(boxes)]
        found += [head(masks) for head in model.roi_head.mask_head] if model.roi_head.with_mask else []
        return [output.mean() for output in found]
    labels = torch.stack([sample.gt_sem_seg.data for sample in samples]).squeeze(1).to(inputs.device)
    losses = []
    for head in (model.decode_head, model.auxiliary_head):
        logits = interpolate(head(maps), labels.shape[-2:], mode='bilinear', align_corners=head.align_corners)
        losses.append(head.loss_decode(logits, labels, ignore_index=head.ignore_index))
    return losses


def check_batch(settings: Config, batch: dict) -> None:
    """A batch has the config's size: at the side that it is scaled to, or of its crop."""
    train = settings.train_dataloader
    assert len(batch['inputs']) == train.batch_size
    for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
        assert image.dtype == torch.uint8
        if settings.default_scope == 'mmseg':
            # What is scaled to less than the crop is padded later.
            assert max(image.shape[1:]) <= 512
            assert sample.gt_sem_seg.data.shape[1:] == image.shape[1:]
        else:
            assert 480 <= min(image.shape[1:]) <= 800
            assert max(image.shape[1:]) <= 1333
            assert sample.gt_instances.labels.max() < 80


def check_step(config: Config, model: nn.Module, losses: list[torch.Tensor]) -> None:
    """Make a step of the config's optimizer, which must reach all parameters that are trained."""
    config.optim_wrapper.pop('clip_grad', None)  # mmengine logs the norm, which is a value.
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    assert len(schedulers_of(config, wrapper)) == len(config.param_scheduler)
    wrapper.update_params(sum(losses))
    assert set(wrapper.optimizer.state) == {p for p in model.parameters() if p.requires_grad}


@pytest.mark.parametrize('name', [name for name in ALONE if name not in BOXES])
def test_a_step_at_full_size(name, config, batches):
    settings = config(LEAVES[name])
    batch = first_batch(settings, batches)
    check_batch(settings, batch)
    model = built(settings.model, settings.default_scope)
    prepared = model.data_preprocessor(batch, True)
    assert prepared['inputs'].isfinite().all()
    if settings.default_scope == 'mmseg':
        assert prepared['inputs'].shape == (4, 3, 512, 512)
    check_step(settings, model, raw_losses(model, prepared['inputs'].to('meta'), prepared['data_samples']))


@pytest.mark.parametrize('name', BOXES)
def test_a_detector_of_boxes_is_that_of_masks_without_them(name, config, batches):
    """So the step of the other stands for both; the data differs by its masks."""
    settings, other = (config(LEAVES[one]) for one in (name, name.replace('cascade-rcnn', 'cascade-mask-rcnn')))
    check_batch(settings, first_batch(settings, batches))
    distilled = name in DISTILLED
    model, masked = (one.model.student if distilled else one.model for one in (settings, other))
    assert {key for key in masked.roi_head if key not in model.roi_head} == {'mask_roi_extractor', 'mask_head'}
    for key in ('mask_roi_extractor', 'mask_head'):
        masked.roi_head.pop(key)
    masked.data_preprocessor.pop('pad_mask')
    if distilled:
        settings.model.teacher, other.model.teacher = {}, {}
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert settings[key] == other[key], key


@pytest.mark.parametrize('name', [name for name in DISTILLED if name not in BOXES])
def test_teacher_and_student_meet_at_full_size(name, config, batches):
    settings = config(LEAVES[name])
    taught_by = config(Path(find(settings.model.teacher.config)))
    student, teacher = (built(model, settings.default_scope) for model in (settings.model.student, taught_by.model))
    teacher.eval().requires_grad_(False)
    terms = build_terms(settings.model.losses)
    with torch.device('meta'):
        networks = [describe('student', student), describe('teacher', teacher)]
        for term in terms:
            term.connect(*networks)
    prepared = student.data_preprocessor(first_batch(settings, batches), True)
    inputs, samples = prepared['inputs'], prepared['data_samples']
    shown, own_samples = ForTeacher(student.data_preprocessor, teacher.data_preprocessor)(inputs, samples)
    assert shown.isfinite().all()
    student.terms = terms
    # Terms ask for the precision of a device, which 'meta' has none of.
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        for network in (student, teacher):
            network.to_empty(device='cpu')
        runs = [
            Pass(student, mode.from_tensor(inputs), samples),
            Pass(teacher, mode.from_tensor(shown), own_samples),
        ]
        watched = [name for term in terms for name in term.watched(student)]
        with watch(runs[0], networks[0].neck_strides, watched):
            losses = raw_losses(student, runs[0].inputs, samples)
        with watch(runs[1], networks[1].neck_strides), torch.no_grad():
            teacher.extract_feat(runs[1].inputs)
        found = [term(*runs) for term in terms]
        losses += [value for values in found for key, value in values.items() if 'loss' in key]
        check_step(settings, student, losses)


def smaller(settings: Config) -> None:
    """Reduce images to an eighth, and regions to what can be computed in a moment."""
    train, model = settings.train_dataloader, settings.model.get('student', settings.model)

    def reduce(steps: list) -> None:
        for step in steps:
            for key in ('scale', 'crop_size'):
                if key in step:
                    step[key] = tuple(side // SMALLER for side in step[key])
            if 'scales' in step:
                step.scales = [tuple(side // SMALLER for side in scale) for scale in step.scales]
            for inner in step.get('transforms', []):
                reduce(inner)

    reduce(train.dataset.pipeline)
    train.batch_size = 2
    if settings.default_scope == 'mmseg':
        model.data_preprocessor.size = tuple(side // SMALLER for side in model.data_preprocessor.size)
    else:
        for stage in model.train_cfg.rcnn:
            stage.sampler.num = REGIONS


def whole_step(settings: Config) -> dict:
    """Make a step of a config with contents; returns its losses."""
    smaller(settings)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(settings.default_scope):
        model = revert_sync_batchnorm(MODELS.build(settings.model)).train()
    wrapper = build_optim_wrapper(model, settings.optim_wrapper)
    schedulers_of(settings, wrapper)
    losses = model.train_step(first_of(settings.train_dataloader, settings.default_scope), wrapper)
    assert all(torch.as_tensor(value).isfinite().all() for value in losses.values())
    expected = {'mmdet': 's2.loss_bbox', 'mmseg': 'decode.loss_ce'}[settings.default_scope]
    assert {expected, 'loss'} <= losses.keys()
    assert all(p.isfinite().all() for p in model.parameters())
    return losses


@pytest.mark.parametrize('name', WITH_CONTENTS)
def test_a_whole_step_of_each_recipe(name, config):
    losses = whole_step(config(LEAVES[name]))
    assert ('s2.loss_mask' in losses) == ('-mask-' in name)


@pytest.mark.parametrize('name', DISTILLED_WITH_CONTENTS)
def test_a_whole_step_with_a_teacher(name, config, tmp_path):
    settings = config(LEAVES[name])
    taught_by = config(Path(find(settings.model.teacher.config)))
    with DefaultScope.overwrite_default_scope(taught_by.default_scope):
        torch.save(MODELS.build(taught_by.model).state_dict(), tmp_path / 'teacher.pth')
    settings.model.teacher.checkpoint = str(tmp_path / 'teacher.pth')
    losses = whole_step(settings)
    taught = [value for key, value in losses.items() if key.startswith('distill.') and 'loss' in key]
    assert len(taught) >= len(settings.model.losses)
    assert all(value > 0 for value in taught)
