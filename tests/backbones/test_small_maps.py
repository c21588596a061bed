"""Convolutions over maps of a few pixels: torch's own, by another way."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from backbones.layers.depthwise import speed_up_depthwise
from backbones.layers.small_maps import PointwiseConv2d, covers, speed_up_pointwise


@pytest.mark.parametrize(
    ('size', 'options', 'is_covered'),
    [
        ((2, 2), dict(kernel_size=7, padding=3), True),
        ((4, 4), dict(kernel_size=7, padding=3, stride=2), True),
        ((1, 3), dict(kernel_size=(5, 7), padding=(2, 3), stride=(1, 2), bias=False), True),
        ((1, 1), dict(kernel_size=5, padding=2), True),
        ((4, 4), dict(kernel_size=7, padding=3), False),  # Too many pairs.
        ((4, 4), dict(kernel_size=5, padding=2, stride=2), False),  # A corner is out of reach.
        ((3, 3), dict(kernel_size=7, padding=6, dilation=2), False),
    ],
    ids=str,
)
def test_depthwise_convolutions_of_covered_maps_are_torchs(size, options, is_covered):
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, groups=6, **options).double().to(memory_format=torch.channels_last)
    fast = speed_up_depthwise(deepcopy(plain), cut_kernels=True)
    x = torch.randn(3, 6, *size, dtype=torch.double).to(memory_format=torch.channels_last).requires_grad_()
    expected, found = plain(x), fast(x)
    assert (type(found.grad_fn).__name__ in ('CoveringDepthwiseBackward', 'AddBackward0')) == is_covered
    if plain.dilation == (1, 1):
        assert covers(size, plain.kernel_size, plain.stride, plain.padding) == is_covered
    grad = torch.randn_like(expected)
    gradients = [
        torch.autograd.grad(out, [x, *conv.parameters()], grad) for out, conv in ((expected, plain), (found, fast))
    ]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('stride', [1, (2, 3)])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_pointwise_convolutions_are_torchs(memory_format, stride):
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 8, 1, stride).to(memory_format=memory_format)
    fast = speed_up_pointwise(deepcopy(plain))
    assert type(fast) is PointwiseConv2d
    x = torch.randn(3, 5, 5, 7).to(memory_format=memory_format).requires_grad_()
    outputs = [conv(x) for conv in (plain, fast)]
    is_product = memory_format is torch.channels_last
    assert (type(outputs[1].grad_fn).__name__ == 'PermuteBackward0') == is_product
    grad = torch.randn_like(outputs[0])
    gradients = [
        torch.autograd.grad(out, [x, *conv.parameters()], grad)
        for out, conv in zip(outputs, (plain, fast), strict=True)
    ]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        assert torch.equal(fast(x), plain(x))


def test_only_pointwise_convolutions_are_taken():
    others = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, groups=4), nn.Conv2d(4, 4, 1, padding=1))
    assert not [module for module in speed_up_pointwise(others) if type(module) is PointwiseConv2d]
