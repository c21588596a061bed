"""What every stand-in for one of mmcv's differentiable operators keeps, whatever the operator does.

`CASES` calls each operator as mmcv's Python does. The rules: the gradient is that of finite differences; half precision
in, half precision out; the memory layout changes nothing; nothing in, nothing out; CUDA and CPU agree; and the values
are those of mmcv's own compiled code, where mmcv has it for the CPU.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

pytest.importorskip('mmcv')

from backbones.mmcv_ops import install

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


@pytest.mark.parametrize('name', CASES)
def test_gradient_is_that_of_finite_differences(name):
    function, inputs = CASES[name]
    leaves = [x.detach().requires_grad_() for x in inputs.values()]
    assert gradcheck(lambda *x: function(**dict(zip(inputs, x, strict=True))), leaves)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name', CASES)
def test_half_precision_in_and_out(name, dtype):
    halves = cast(name, lambda x: x.to(dtype))
    found, expected = run(name, halves), run(name, {key: value.float() for key, value in halves.items()})
    assert all(x.dtype == dtype for x in found)
    for some, all_of_it in zip(found, expected, strict=True):
        torch.testing.assert_close(some.float(), all_of_it, rtol=0.05, atol=0.05)


@pytest.mark.parametrize('name', CASES)
def test_memory_layout_changes_nothing(name):
    expected = run(name, CASES[name][1])
    for layout in (spaced, reversed_axes):
        for found, there in zip(run(name, cast(name, layout)), expected, strict=True):
            torch.testing.assert_close(found, there)


def spaced(x: Tensor) -> Tensor:
    """The same values with gaps between them."""
    return torch.stack([x, x + 1], dim=-1)[..., 0]


def reversed_axes(x: Tensor) -> Tensor:
    """The same values with the last axis outermost in memory; channels last, of a map."""
    order = list(range(x.ndim))
    order = order[:1] + order[2:] + order[1:2] if x.ndim == 4 else order[::-1]
    back = [order.index(axis) for axis in range(x.ndim)]
    return x.permute(order).contiguous().permute(back)


@pytest.mark.parametrize('device', ['cuda'] if torch.cuda.is_available() else [])
@pytest.mark.parametrize('name', CASES)
def test_devices_agree(name, device):
    for found, expected in zip(run(name, cast(name, lambda x: x.to(device))), run(name, CASES[name][1]), strict=True):
        torch.testing.assert_close(found.cpu(), expected)


EMPTY = {
    'roi_align': lambda maps: ops.roi_align(maps, BOXES[:0].double(), (2, 3), 0.5, 2, 'avg', True),
    'roi_align_max': lambda maps: ops.roi_align(maps, BOXES[:0].double(), (2, 3), 0.5, 2, 'max', True),
    'roi_pool': lambda maps: ops.roi_pool(maps, BOXES[:0].double(), (2, 3), 0.5),
    'roi_align_rotated': lambda maps: ops.roi_align_rotated(maps, TURNED[:0].double(), (2, 3), 0.8, 0, True, False),
    'deform_roi_pool': lambda maps: ops.deform_roi_pool(maps, BOXES[:0].double(), None, (2, 3), 0.5, 2, 0.1),
    'border_align': lambda maps: ops.border_align(maps, CORNERS[:, :0].double(), 5),
    'carafe': lambda maps: ops.carafe(maps[:0], wave(0, 18, 16, 18), 3, 2, 2),
    'psamask': lambda maps: ops.PSAMask('collect', (2, 2))(maps[:0]),
    'sigmoid_focal_loss': lambda maps: ops.sigmoid_focal_loss(maps[:0, :, 0, 0], LABELS[:0], 2.0, 0.25, None, 'sum'),
    'softmax_focal_loss': lambda maps: ops.softmax_focal_loss(maps[:0, :, 0, 0], LABELS[:0], 2.0, 0.25, None, 'sum'),
}


@pytest.mark.parametrize('name', EMPTY)
def test_nothing_in_nothing_out(name):
    maps = MAPS['maps'].detach().clone().requires_grad_()
    result = EMPTY[name](maps)
    assert not result.any()
    result.sum().backward()
    assert not maps.grad.any()


def test_no_boxes():
    none, scores = torch.zeros(0, 4), torch.zeros(0)
    assert len(ops.nms(none, scores, 0.5)[1]) == len(ops.soft_nms(none, scores)[1]) == 0
    assert len(ops.nms_match(torch.zeros(0, 5), 0.5)) == 0
    assert ops.bbox_overlaps(none, torch.rand(3, 4)).shape == (0, 3)
    assert ops.box_iou_rotated(torch.zeros(0, 5), torch.rand(3, 5)).shape == (0, 3)


@pytest.mark.parametrize('dtype', [torch.float, torch.half])
def test_synchronised_normalisation_of_one_process_is_batch_normalisation(dtype, monkeypatch):
    monkeypatch.setattr(torch.distributed, 'get_world_size', lambda *_: 1)
    results = []
    for kind in (ops.SyncBatchNorm, torch.nn.BatchNorm2d):
        layer = kind(4)
        layer.weight.data, layer.bias.data = wave(4).float(), wave(4, speed=0.3).float()
        maps = wave(2, 4, 8, 9).to(dtype).requires_grad_()
        y = layer(maps if kind is ops.SyncBatchNorm else maps.float())
        y.backward(wave(2, 4, 8, 9, speed=1.1).to(y))
        parts = [y.detach(), maps.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var]
        results.append([part.float() for part in parts])
    tolerance = 1e-5 if dtype == torch.float else 3e-3
    torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance)


STORED = Path(__file__).with_name('compiled.npz')


@pytest.mark.parametrize('name', np.load(STORED)['names'] if STORED.exists() else [])
def test_values_are_those_of_mmcvs_compiled_code(name):
    """``compiled.npz`` holds what mmcv 2.1's own C++ code for the CPU gives for these cases, in single precision."""
    stored = np.load(STORED)
    for place, found in enumerate(run(str(name), cast(name, lambda x: x.float()))):
        torch.testing.assert_close(found, torch.from_numpy(stored[f'{name}.{place}']), rtol=1e-4, atol=1e-5)
