"""Small detectors and segmenters and their batches, and what a student and a teacher make of them for a term."""

from collections.abc import Callable

import numpy as np
import torch
from downstream_runs import FOLDER
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from distill.downstream.dense_teacher import describe, watch
from distill.downstream.dense_terms.base import DenseTerm, Pass
from distill.downstream.dense_terms.build import build_terms
from distill.training.experiment import import_modules

SIZE, CLASSES = 64, 10
DETECTORS = {
    name: f'cascade_rcnn/cascade-mask-rcnn_{name}_fpn_tiny_shapes-coco.py' for name in ('resnet', 'robust-resnet-dw')
}
SEGMENTERS = {
    'resnet': 'deeplabv3/deeplabv3_resnet_tiny_shapes-ade20k.py',
    'robust-resnet-dw': 'deeplabv3/deeplabv3_robust-resnet-dw_tiny_shapes-ade20k.py',
    'upernet': 'deeplabv3/upernet_swin_tiny_shapes-ade20k.py',
}


def build(path: str, change: Callable[[Config], None] = lambda model: None, seed: int = 0) -> nn.Module:
    """The model of a config after a change, with random weights."""
    config = Config.fromfile(FOLDER / path, format_python_code=False)
    import_modules(config)
    change(config.model)
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return MODELS.build(config.model)


def frozen(network: nn.Module) -> nn.Module:
    return network.requires_grad_(False).eval()


def images() -> Tensor:
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def detection_samples() -> list:
    shape = (SIZE, SIZE)
    boxes = np.array([[4, 6, 30, 40], [20, 10, 60, 50]])
    masks = np.zeros((2, *shape), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    samples = []
    for label in (1, 3):
        sample = DetDataSample(metainfo=dict(img_shape=shape, pad_shape=shape, batch_input_shape=shape, sample_idx=0))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes).float(), labels=torch.tensor([label, 5]), masks=BitmapMasks(masks, *shape)
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        samples.append(sample)
    return samples


def segmentation_samples(ignored_columns: int = 0) -> list:
    labels = torch.randint(CLASSES, (2, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(2))
    labels[..., :ignored_columns] = 255
    shape = dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE))
    samples = [SegDataSample(metainfo=shape) for _ in labels]
    for sample, label in zip(samples, labels, strict=True):
        sample.gt_sem_seg = PixelData(data=label)
    return samples


def connected(configs: list[dict], student: nn.Module, teacher: nn.Module) -> list[DenseTerm]:
    terms = build_terms(configs)
    networks = describe('student', student), describe('teacher', teacher)
    for term in terms:
        term.connect(*networks)
    return list(terms)


def runs(student: nn.Module, teacher: nn.Module, terms: list, samples: list, places=None, amp=False) -> tuple:
    """What a student and a teacher make of a batch, as training lets a term see it."""
    names = dict.fromkeys(name for term in terms for name in term.watched(student))
    mine, its = Pass(student, images(), samples), Pass(teacher, images(), samples, places=places)
    with torch.autocast('cpu', dtype=torch.bfloat16, enabled=amp):
        with torch.no_grad(), watch(its, describe('teacher', teacher).neck_strides):
            teacher.extract_feat(its.inputs)
        with watch(mine, describe('student', student).neck_strides, list(names)):
            student.loss(mine.inputs, samples)
    return mine, its


def values(configs: list[dict], student: nn.Module, teacher: nn.Module, samples: list, **more) -> list[dict]:
    terms = connected(configs, student, teacher)
    passes = runs(student, teacher, terms, samples, **more)
    return [term(*passes) for term in terms]
