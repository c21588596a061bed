"""Wide depthwise convolutions: the gradients of torch's own, by another way."""

from copy import deepcopy

import pytest
import timm
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import backbones.robust_resnet  # noqa: F401  registers the models
from backbones.layers.depthwise import DepthwiseConv2d, speed_up_depthwise, weight_gradient

GEOMETRIES = [
    dict(kernel_size=11, padding=5),
    dict(kernel_size=(7, 5), stride=(2, 1), padding=(3, 2), bias=False),
    dict(kernel_size=5, stride=2),
    dict(kernel_size=(5, 7), dilation=(2, 1), padding=(1, 4)),
    dict(kernel_size=(4, 5), stride=3, padding=1),
    dict(kernel_size=7, padding=3, stride=16),
]


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('geometry', GEOMETRIES, ids=str)
def test_gradients_are_those_of_torch(geometry, memory_format):
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
