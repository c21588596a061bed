"""Count what a config's model costs on one image: parameters and multiply-adds, part by part."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from backbones.record import ModelRecord
from distill.downstream.student_config import student_alone

COUNTED = 'convolutions, matrix products and attention; not norms, activations, resampling, RoI pooling, NMS'
REGIONS_RUN = 10
"""Number of regions that box and mask heads are run on. Their cost is in proportion to it, and is scaled up."""


@dataclass(frozen=True)
class Part:
    """A part of a model.

    Attributes:
        name: Its name in the model; empty for the whole.
        params: Millions of parameters.
        gmacs: Billions of multiply-adds of one image.
    """

    name: str
    params: float
    gmacs: float


def default_shape(config: Config) -> tuple[int, int]:
    """Height and width that costs are usually given for: 800 × 1280 for detectors, otherwise the training crop."""
    if config.get('default_scope') == 'mmdet':
        return 800, 1280
    if config.get('default_scope') == 'mmseg':
        return tuple(config.model.get('data_preprocessor', {}).get('size') or (512, 512))
    side = config.train_dataloader.dataset.transform.input_size
    return (side, side) if isinstance(side, int) else tuple(side[-2:])


def count_parts(config: Config, shape: tuple[int, int]) -> tuple[list[Part], dict[str, int]]:
    """Count a config's model at inference, without loading weights.

    Args:
        config: A detector's, segmenter's or distillation's config; of a distillation the student counts.
        shape: Height and width.

    Returns:
        The parts, then the whole; and, for two-stage detectors, of how many regions (``proposals`` for boxes,
        ``detections`` for masks) the heads are counted.
    """
    student_alone(config)
    without_weights(config.model)
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine')):
        if 'student' in config.model:
            config.model.update(teacher=None, losses=[dict(type='cross_entropy')])
        model = MODELS.build(config.model).eval()
        regions = {}
        if hasattr(model, 'roi_head') and hasattr(model, 'rpn_head'):
            test_cfg = config.model.test_cfg
            regions = {'proposals': test_cfg.rpn.max_per_img, 'detections': test_cfg.rcnn.max_per_img}
        macs = count_modules(model, shape)

    parts = []
    for name, child in model.named_children():
        found = {module: count for module, count in macs.items() if f'{module}.'.startswith(f'{name}.')}
        gmacs = sum(count * _times(module, regions) for module, count in found.items()) / 1e9
        parts.append(Part(name, sum(p.numel() for p in child.parameters()) / 1e6, gmacs))
    whole = Part('', sum(part.params for part in parts), sum(part.gmacs for part in parts))
    return [part for part in parts if part.params or part.gmacs] + [whole], regions


def count_modules(model: nn.Module, shape: tuple[int, int]) -> dict[str, float]:
    """Multiply-adds of one image by the outermost modules that torch sees being called, none inside another."""
    image = torch.zeros(1, 3, *shape)
    counter = FlopCounterMode(display=False)
    # Fused attention is not counted on the CPU, its plain form is.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), fixed_regions(model, shape), counter:
        run(model, image)
    root = type(model).__name__
    macs = {name.removeprefix(f'{root}.'): sum(ops.values()) / 2 for name, ops in counter.get_flop_counts().items()}
    return {
        name: count
        for name, count in macs.items()
        if name not in (root, 'Global') and not any(name.startswith(f'{other}.') for other in macs)
    }


def run(model: nn.Module, image: Tensor) -> None:
    """Run any of the three kinds of models on an image [1, 3, H, W], up to its heads' raw outputs."""
    if hasattr(model, 'student'):
        model(image, mode='tensor')
        return
    size = tuple(image.shape[-2:])
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    model(image, [BaseDataElement(metainfo=meta)], mode='tensor')


@contextmanager
def fixed_regions(model: nn.Module, shape: tuple[int, int]) -> Iterator[None]:
    """Let a two-stage detector look at a fixed number of regions instead of those that its untrained RPN proposes."""
    if not (hasattr(model, 'roi_head') and hasattr(model, 'rpn_head')):
        yield
        return
    height, width = shape
    boxes = torch.tensor([[0.0, 0.0, width / 2, height / 2]]).repeat(REGIONS_RUN, 1)

    def propose(maps, samples, rescale=False):
        model.rpn_head(maps)
        return [InstanceData(bboxes=boxes)]

    with patch.object(model.rpn_head, 'predict', propose):
        yield


def without_weights(model: dict) -> None:
    """Take everything out of a model's config that would load or fetch weights.

    The name and the arguments of a model may stand in the record beside its checkpoint alone: they stay.
    """
    checkpoint = model.get('checkpoint')
    record = ModelRecord.read(checkpoint) if isinstance(checkpoint, str) and not model.get('model') else None
    if record is not None:
        model.update({'model': record.model, **record.model_kwargs, **model})
    for key in list(model):
        if key in ('pretrained', 'checkpoint', 'init_cfg'):
            model[key] = False if key == 'pretrained' else None
        elif isinstance(model[key], dict):
            without_weights(model[key])


def _times(module: str, regions: dict[str, int]) -> float:
    """The factor from a module's cost as it was run to its cost on all regions."""
    if not regions or not module.startswith('roi_head.') or 'semantic_head' in module:
        return 1.0
    return regions['detections' if 'mask' in module else 'proposals'] / REGIONS_RUN
