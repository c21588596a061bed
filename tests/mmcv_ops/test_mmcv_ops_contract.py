"""What every stand-in for one of mmcv's differentiable operators keeps, whatever the operator does.

`backbones.mmcv_ops.cases` calls each operator as mmcv's Python does. The rules: the gradient is that of finite
differences; half precision in, half precision out; the memory layout changes nothing; nothing in, nothing out; CUDA and
CPU agree; and the values are those of mmcv's own compiled code, where mmcv has it for the CPU.
"""

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

from backbones.mmcv_ops.cases import BOXES, CASES, CORNERS, LABELS, MAPS, TURNED, cast, run, wave  # noqa: E402


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
