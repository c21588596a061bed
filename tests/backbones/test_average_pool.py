"""Padded average pools where the gradient in `channels_last` is computed as torch before 2.14 does on CUDA."""

import copy

import pytest
import timm
import torch
from timm.models.resnest import ResNestBottleneck
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import backbones  # noqa: F401  registers the models
from backbones.layers import average_pool
from backbones.layers.average_pool import AvgPool2d, mend_average_pools

BACKWARD = torch.ops.aten.avg_pool2d_backward.default


class OldCard(TorchDispatchMode):
    """Gradients of average pools as torch's kernel for `channels_last` gave them: without the padding's offset.

    Attributes:
        wrong: How many were wrong.
    """

    wrong = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is BACKWARD:
            grad, x, kernel, stride, (top, left), ceil_mode, count_include_pad, divisor = args
            if max(top, left) and not x.is_contiguous():
                self.wrong += 1
                padded = nn.functional.pad(x, (left, left, top, top))
                all_of_it = BACKWARD(grad, padded, kernel, stride, [0, 0], ceil_mode, count_include_pad, divisor)
                return all_of_it[..., : x.shape[2], : x.shape[3]].contiguous(memory_format=torch.channels_last)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def old_card(monkeypatch):
    monkeypatch.setattr(average_pool, 'is_wrong', lambda x: not x.is_contiguous())
    return OldCard()


def gradients(network: nn.Module, images: Tensor, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
    """The output of a network, and the gradients of a weighted sum of it by weights and images, as one vector."""
    network = copy.deepcopy(network).double().to(memory_format=layout)
    images = images.double().to(memory_format=layout).requires_grad_()
    output = network(images)
    (output * torch.linspace(-1, 1, output.numel(), dtype=torch.double).sin().view_as(output)).sum().backward()
    found = [images.grad, *(weight.grad for weight in network.parameters() if weight.grad is not None)]
    return output, torch.cat([each.flatten() for each in found])


WAYS = [dict(padding=1), dict(padding=(0, 1)), dict(padding=1, ceil_mode=True, count_include_pad=False)]


@pytest.mark.parametrize('arguments', WAYS)
def test_the_gradient_is_right_and_the_format_stays(old_card, arguments):
    images = torch.randn(2, 3, 8, 7)
    plain = nn.AvgPool2d(3, 2, **arguments)
    expected, exact = gradients(plain, images, torch.contiguous_format)
    mended = mend_average_pools(nn.Sequential(plain))
    with old_card:
        output, found = gradients(mended, images, torch.channels_last)
    assert old_card.wrong == 0
    torch.testing.assert_close(found, exact)
    torch.testing.assert_close(output, expected)
    assert output.is_contiguous(memory_format=torch.channels_last)


def test_without_it_the_gradient_is_wrong():
    """Else the other tests would say nothing."""
    pool, images = nn.AvgPool2d(2, 1, 1), torch.arange(32.0).view(1, 2, 4, 4)
    with OldCard() as card:
        _, found = gradients(pool, images, torch.channels_last)
    _, exact = gradients(pool, images, torch.contiguous_format)
    assert card.wrong == 1
    assert (found - exact).norm() > 0.3 * exact.norm()


RESNET = dict(layers=(1, 1, 1, 1), channels=(8, 16, 32, 64), stem_width=8)


@pytest.mark.parametrize(
    ('name', 'arguments'),
    [('shufflenet_v1_g3_x1_0', dict(width=0.2, depths=(1, 2, 1))), ('resnest50_fast_2s1x64d', RESNET)],
)
def test_models_of_this_project_train_right(old_card, name, arguments):
    torch.manual_seed(0)
    network, images = timm.create_model(name, num_classes=5, **arguments).eval(), torch.randn(2, 3, 64, 64)
    _, exact = gradients(network, images, torch.contiguous_format)
    with old_card:
        _, found = gradients(network, images, torch.channels_last)
    assert old_card.wrong == 0
    torch.testing.assert_close(found, exact)


def test_poolings_that_are_right_stay():
    network = nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(3, padding=1), ResNestBottleneck(64, 64, avd=True, stride=2))
    mend_average_pools(network)
    kinds = [type(module) for module in network.modules() if isinstance(module, nn.AvgPool2d)]
    assert kinds == [nn.AvgPool2d, AvgPool2d, AvgPool2d]
