"""Wide depthwise convolutions: the gradients of torch's own, by another way."""

from copy import deepcopy

import pytest
import timm
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import backbones.robust_resnet  # noqa: F401  registers the models
from backbones.layers.depthwise import DepthwiseConv2d, cpu_ways, speed_up_depthwise, weight_gradient

GEOMETRIES = [
    dict(kernel_size=11, padding=5),
    dict(kernel_size=(7, 5), stride=(2, 1), padding=(3, 2), bias=False),
    dict(kernel_size=5, stride=2),
    dict(kernel_size=(5, 7), dilation=(2, 1), padding=(1, 4)),
    dict(kernel_size=(4, 5), stride=3, padding=1),
    dict(kernel_size=7, padding=3, stride=16),
]


@pytest.mark.parametrize('way', cpu_ways.WAYS)
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('geometry', GEOMETRIES, ids=str)
def test_gradients_are_those_of_torch(geometry, memory_format, way, monkeypatch):
    monkeypatch.setenv(cpu_ways.VARIABLE, way)
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, groups=6, **geometry).double().to(memory_format=memory_format)
    fast = speed_up_depthwise(deepcopy(plain))
    assert type(fast) is DepthwiseConv2d
    x = torch.randn(3, 6, 17, 19, dtype=torch.double).to(memory_format=memory_format).requires_grad_()
    output = plain(x)
    assert torch.equal(fast(x), output)
    grad = torch.randn_like(output)
    for conv in (plain, fast):
        conv.grads = torch.autograd.grad(conv(x), [x, *conv.parameters()], grad)
    for found, expected in zip(fast.grads, plain.grads, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    # A frozen kernel, and a convolution of the images themselves.
    fast.weight.requires_grad_(False)
    torch.testing.assert_close(torch.autograd.grad(fast(x), x, grad)[0], plain.grads[0])
    fast.weight.requires_grad_(True)
    torch.testing.assert_close(torch.autograd.grad(fast(x.detach()), fast.weight, grad)[0], plain.grads[1])


def test_compiled_and_checkpointed_it_has_the_same_gradients():
    torch.manual_seed(0)
    conv = speed_up_depthwise(nn.Conv2d(4, 4, 5, padding=2, groups=4))
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    compiled = torch.compile(conv, backend='aot_eager')
    expected = torch.autograd.grad(conv(x).square().sum(), [x, *conv.parameters()])
    for output in (compiled(x), checkpoint(conv, x, use_reentrant=False)):
        assert output.grad_fn is not None
        torch.testing.assert_close(torch.autograd.grad(output.square().sum(), [x, *conv.parameters()]), expected)


def test_a_weight_gradient_by_hand():
    x = torch.arange(5.0).view(1, 1, 1, 5)
    grad = torch.tensor([1.0, 0, 10]).view(1, 1, 1, 3)
    # Outputs 0 and 2 look at pixels -1…3 and 1…5, of which -1 and 5 are padding.
    expected = [0 + 10 * 1, 0 + 10 * 2, 1 + 10 * 3, 2 + 10 * 4, 3 + 10 * 0]
    assert weight_gradient(x, grad, (1, 5), (1, 1), (0, 1), (1, 1)).flatten().tolist() == expected


def test_only_wide_depthwise_convolutions_are_taken():
    network = timm.create_model('robust_resnet_dw_small', dims=(8, 8, 8, 8), depths=(1, 1, 1, 1), kernel_size=7)
    names = list(network.state_dict())
    wide = [name for name, module in network.named_modules() if name.endswith('conv_dw')]
    speed_up_depthwise(network)
    assert [name for name, module in network.named_modules() if type(module) is DepthwiseConv2d] == wide
    assert list(network.state_dict()) == names
    others = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 8, 7, groups=4),
        nn.Conv2d(4, 4, 7),
        nn.Conv2d(4, 4, 7, groups=4, padding='same'),
        nn.Conv2d(4, 4, 7, groups=4, padding=3, padding_mode='circular'),
    )
    assert not [module for module in speed_up_depthwise(others) if type(module) is DepthwiseConv2d]
    assert [type(module) for module in speed_up_depthwise(timm.create_model('convnext_atto')).modules()].count(
        DepthwiseConv2d
    ) == sum((2, 2, 6, 2))


def test_the_faster_way_is_measured_once_and_taken_up_by_others(monkeypatch):
    monkeypatch.setenv(cpu_ways.VARIABLE, 'measure')
    monkeypatch.setattr(cpu_ways, '_CHOSEN', {})
    clock, calls = [0.0], []
    monkeypatch.setattr(cpu_ways.time, 'perf_counter', lambda: clock[0])
    x = torch.zeros(2, 12, 64, 64)
    geometry = ((1, 1), (5, 5), (1, 1))

    def choose(seconds: dict) -> str:
        def compute(way):
            calls.append(way)
            clock[0] += seconds[way]

        return cpu_ways.choose(x, x, (11, 11), geometry, compute)

    usual = cpu_ways.by_rule(x, (5, 5))
    others = [way for way in cpu_ways.WAYS if way != usual]
    slow = dict.fromkeys(cpu_ways.WAYS, 1.0)
    # A little faster is not enough, and what was chosen stays.
    assert choose(slow | {others[0]: 0.95}) == usual
    assert len(calls) == 3 * cpu_ways.ROUNDS
    assert choose(slow | {others[0]: 0.1}) == usual
    assert len(calls) == 3 * cpu_ways.ROUNDS
    x = torch.zeros(3, 12, 64, 64)
    assert choose(slow | {others[0]: 0.5}) == others[0]
    (key,) = [key for key, way in cpu_ways.chosen().items() if way == others[0]]
    assert key.startswith('3x12x64x64 k11x11 s1x1 p5x5 d1x1 float32 planes ')
    # Another process goes on with it, and takes nothing that it does not know.
    before = cpu_ways.chosen()
    monkeypatch.setattr(cpu_ways, '_CHOSEN', {})
    cpu_ways.take_up({**before, 'other': 'magic'})
    assert cpu_ways.chosen() == before
    assert choose(slow) == others[0]
    # A moment's work goes by the rule.
    calls.clear()
    x = torch.zeros(2, 12, 8, 8)
    assert choose(slow | {others[0]: 0.1}) == cpu_ways.by_rule(x, (5, 5))
    assert not calls
    # What is asked for is done, and mistakes are named.
    monkeypatch.setenv(cpu_ways.VARIABLE, 'torch')
    assert choose(slow) == 'torch'
    monkeypatch.setenv(cpu_ways.VARIABLE, 'fastest')
    with pytest.raises(ValueError, match="is 'fastest'; choose from measure, rule, torch, convolution, padded"):
        choose(slow)


def test_each_way_is_really_timed(monkeypatch):
    monkeypatch.setenv(cpu_ways.VARIABLE, 'measure')
    monkeypatch.setattr(cpu_ways, '_CHOSEN', {})
    conv = speed_up_depthwise(nn.Conv2d(32, 32, 11, padding=5, groups=32))
    conv(torch.randn(14, 32, 14, 14)).sum().backward()
    assert len(cpu_ways.chosen()) == 1
    assert set(cpu_ways.chosen().values()) <= set(cpu_ways.WAYS)
