"""A call of each differentiable operator, as mmcv's Python makes it: what tests and checks of a device compare."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from backbones.mmcv_ops.extension import install

install()

from mmcv import ops  # noqa: E402
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction  # noqa: E402

Case = tuple[Callable, dict[str, Tensor]]


def wave(*shape: int, speed: float = 0.7) -> Tensor:
    """A tensor of different values."""
    return (torch.arange(math.prod(shape), dtype=torch.double) * speed).sin().reshape(shape)


# Numbers of few bits, which half precision does not round; inside the maps, where mmcv's gradients are the true ones.
BOXES = torch.tensor(
    [[0, 1.375, 2.125, 9.75, 12.375], [1, 3.125, 2.625, 13.125, 14.375], [1, 3.25, 3.125, 5.375, 9.875]]
)
TURNED = torch.tensor([[0, 6.25, 5.125, 7.375, 4.25, 0.375], [1, 3.375, 8.0, 12.0, 9.0, -1.125]])
CORNERS = torch.tensor(
    [[[1.25, 0.75, 6.125, 5.375], [0.125, 2.25, 7.75, 3.875]], [[2, 2, 2.375, 5.75], [5, 1, 7.625, 6.25]]]
)
LEVELS = torch.tensor([[3, 2], [2, 1]]), torch.tensor([0, 6])
LABELS = torch.tensor([0, 2, 3, 1])
MAPS = dict(maps=wave(2, 4, 8, 9))


def case(function: Callable, **inputs: Tensor) -> Case:
    """An operator as a function of the tensors that it has gradients for."""
    return function, inputs


CASES: dict[str, Case] = {
    'roi_align': case(lambda maps: ops.roi_align(maps, BOXES.to(maps), (2, 3), 0.5, 2, 'avg', True), **MAPS),
    'roi_align_max': case(lambda maps: ops.roi_align(maps, BOXES.to(maps), (2, 3), 0.5, 0, 'max', True), **MAPS),
    'roi_pool': case(lambda maps: ops.roi_pool(maps, BOXES.to(maps), (2, 3), 0.5), **MAPS),
    'roi_align_rotated': case(
        lambda maps: ops.roi_align_rotated(maps, TURNED.to(maps), (2, 3), 0.8, 0, True, False), **MAPS
    ),
    'deform_roi_pool': case(
        lambda maps, offset: ops.deform_roi_pool(maps, BOXES.to(maps), offset, (2, 3), 0.5, 2, 0.1),
        **MAPS,
        offset=0.1 * wave(3, 2, 2, 3),
    ),
    'border_align': case(lambda maps: ops.border_align(maps, CORNERS.to(maps), 5), **MAPS),
    'carafe': case(lambda maps, masks: ops.carafe(maps, masks, 3, 2, 2), **MAPS, masks=wave(2, 18, 16, 18, speed=0.9)),
    'psamask_collect': case(ops.PSAMask('collect', (3, 5)), input=wave(2, 15, 4, 3)),
    'psamask_distribute': case(ops.PSAMask('distribute', (9, 7)), input=wave(2, 63, 4, 3)),
    'deform_conv2d': case(
        lambda maps, offset, weight: ops.deform_conv2d(maps, offset, weight, 2, 1, 1, 2, 2),
        **MAPS,
        offset=0.4 * wave(2, 36, 4, 5) + 0.05,
        weight=wave(6, 2, 3, 3),
    ),
    'modulated_deform_conv2d': case(
        lambda maps, offset, mask, weight, bias: ops.modulated_deform_conv2d(
            maps, offset, mask, weight, bias, 1, 1, 1, 1, 2
        ),
        **MAPS,
        offset=0.4 * wave(2, 36, 8, 9) + 0.05,
        mask=wave(2, 18, 8, 9, speed=0.3).sigmoid(),
        weight=wave(3, 4, 3, 3),
        bias=wave(3),
    ),
    'ms_deform_attn': case(
        lambda value, places, weights: MultiScaleDeformableAttnFunction.apply(
            value, *(x.to(value.device) for x in LEVELS), places, weights, 64
        ),
        value=wave(2, 8, 2, 3),
        places=0.5 + 0.6 * wave(2, 2, 2, 2, 2, 2, speed=0.9),
        weights=wave(2, 2, 2, 2, 2, speed=0.3).sigmoid(),
    ),
    'sigmoid_focal_loss': case(
        lambda logits: ops.sigmoid_focal_loss(logits, LABELS.to(logits.device), 2.0, 0.25, None, 'none'),
        logits=3 * wave(4, 3),
    ),
    'softmax_focal_loss': case(
        lambda logits: ops.softmax_focal_loss(logits, LABELS.to(logits.device) % 3, 2.0, 0.25, None, 'sum'),
        logits=3 * wave(4, 3),
    ),
}


def run(name: str, inputs: dict[str, Tensor]) -> list[Tensor]:
    """The result of an operator and its gradients by each input, of a weighted sum of the result."""
    leaves = {key: value.detach().requires_grad_() for key, value in inputs.items()}
    result = CASES[name][0](**leaves)
    weights = wave(*result.shape, speed=1.1).to(result)
    return [result.detach(), *torch.autograd.grad(result, list(leaves.values()), weights)]


def cast(name: str, to: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    return {key: to(value) for key, value in CASES[name][1].items()}


def _scattered(device: str, count: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [N, 4] that overlap, distinct scores [N] and labels [N]."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 4 + torch.rand(count, 2, generator=generator) * 20], dim=1)
    scores = torch.randperm(count, generator=generator).float().add(1).div(count + 1)
    return boxes.to(device), scores.to(device), (torch.arange(count) % 3).to(device)


def _turned(device: str) -> tuple[Tensor, Tensor, Tensor]:
    boxes, scores, labels = _scattered(device, 60)
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return torch.cat([centres, sides, 6 * scores[:, None] - 3], dim=1), scores, labels


def _nms_match(device: str) -> list[Tensor]:
    boxes, scores, _ = _scattered(device)
    groups = ops.nms_match(torch.cat([boxes, scores[:, None]], dim=1), 0.5)
    return [torch.as_tensor(group, device=device) for group in groups]


def _batched(device: str) -> list[Tensor]:
    boxes, scores, labels = _scattered(device)
    return list(ops.batched_nms(boxes, scores, labels, dict(type='nms', iou_threshold=0.5)))


BOX_CASES: dict[str, Callable[[str], list[Tensor]]] = {
    'nms': lambda device: list(ops.nms(*_scattered(device)[:2], 0.5)),
    'batched_nms': _batched,
    'soft_nms': lambda device: list(ops.soft_nms(*_scattered(device)[:2], 0.3, method='gaussian')),
    'nms_match': _nms_match,
    'bbox_overlaps': lambda device: [ops.bbox_overlaps(_scattered(device)[0], _scattered(device, 30)[0])],
    'box_iou_rotated': lambda device: [ops.box_iou_rotated(_turned(device)[0], _turned(device)[0][:20])],
    'nms_rotated': lambda device: list(ops.nms_rotated(*_turned(device)[:2], 0.3)),
}
"""Operators without gradients, as functions of a device: what they give."""
