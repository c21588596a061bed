"""Single layers, forward and backward, in all mixtures of memory formats, against double precision on the CPU.

A network's gradient that is off does not tell where. ShuffleNet's, on an H100 with torch 2.11, was off by 0.045 in
`channels_last`: torch's gradient of padded average pooling was wrong (`backbones.layers.average_pool`). So each kind of
its layers is given its input in one format and its gradient in another, and torch's own pooling tells whether what
stands there of torch's versions is true of this one.
"""

import copy
import functools
import itertools
from typing import Any

import torch
from torch import Tensor, nn

from backbones.layers.average_pool import AvgPool2d, is_wrong
from backbones.relatives.shufflenet_v1 import channel_shuffle
from distill.gpu_check.rows import Check, Mismatch, Setting, distance, require


class Shuffle(nn.Module):
    """The shuffle between ShuffleNet's grouped convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        """Reorder channels [B, C, H, W]."""
        return channel_shuffle(x, 3)


FORMATS = {'planes': torch.contiguous_format, 'channels_last': torch.channels_last}
LIMITS = {'fp32': 1e-4, 'bf16': 2e-2}
LAYERS: dict[str, tuple[Any, int]] = {
    'depthwise 3x3': (lambda: nn.Conv2d(60, 60, 3, 1, 1, groups=60, bias=False), 60),
    'depthwise 3x3, stride 2': (lambda: nn.Conv2d(60, 60, 3, 2, 1, groups=60, bias=False), 60),
    'pointwise of 3 groups': (lambda: nn.Conv2d(60, 240, 1, groups=3, bias=False), 60),
    'pointwise': (lambda: nn.Conv2d(24, 60, 1, bias=False), 24),
    'stem of 24 channels': (lambda: nn.Conv2d(3, 24, 3, 2, 1, bias=False), 3),
    'average pooling 3x3, stride 2': (lambda: AvgPool2d(3, 2, 1), 60),
    'max pooling 3x3, stride 2': (lambda: nn.MaxPool2d(3, 2, 1), 24),
    'batch norm': (lambda: nn.BatchNorm2d(60), 60),
    'channel shuffle': (Shuffle, 60),
}
"""By name, a layer and its input channels, as ShuffleNet has them."""


def checks(setting: Setting) -> list[Check]:
    """A check for each layer of `LAYERS`, and one of what is known of torch's own pooling."""
    layers = [Check(name, functools.partial(compare, name, setting)) for name in LAYERS]
    return [*layers, Check("torch's average pooling is as right as its version says", lambda: torchs_pooling(setting))]


def compare(name: str, setting: Setting) -> dict[str, Any]:
    """Output and gradients of a layer in each mixture of formats of weights, input and gradient."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    make, chs = LAYERS[name]
    torch.manual_seed(0)
    layer = make().train()
    images = torch.randn(2, chs, *[16 if setting.small else 56] * 2).bfloat16().float()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(weight.bfloat16())
        grad = torch.randn_like(layer(images)).bfloat16().float()
    exact = passes(layer, images, grad, 'cpu', torch.float64, *[torch.contiguous_format] * 3)
    values, limits = {}, {}
    for weights, given, back in itertools.product(FORMATS, repeat=3):
        for kind, dtype in (('fp32', torch.float32), ('bf16', torch.bfloat16)):
            if kind == 'bf16' and setting.device == 'cpu':
                continue
            formats = [FORMATS[one] for one in (weights, given, back)]
            found = passes(layer, images, grad, setting.device, dtype, *formats)
            key = f'{kind} {weights}/{given}/{back}'
            values[key] = max(distance(*pair) for pair in zip(found, exact, strict=True))
            limits[key] = LIMITS[kind]
    return require(values, limits)


def torchs_pooling(setting: Setting) -> dict[str, Any]:
    """The gradient of torch's padded average pooling in both formats, which may be wrong where `is_wrong` says so.

    Raises:
        Mismatch: It is wrong elsewhere.
    """
    torch.manual_seed(0)
    pool, images, grad = nn.AvgPool2d(3, 2, 1), torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)
    exact = passes(pool, images, grad, 'cpu', torch.float64, *[torch.contiguous_format] * 3)
    values: dict[str, Any] = {}
    for name, layout in FORMATS.items():
        found = passes(pool, images, grad, setting.device, torch.float32, torch.contiguous_format, layout, layout)
        known = is_wrong(images.to(setting.device, memory_format=layout))
        values |= {name: distance(found[1], exact[1]), f'{name}, known to be wrong': known}
        if not known and not values[name] <= LIMITS['fp32']:
            raise Mismatch(f'the gradient of average pooling in {name} is off by {values[name]:.3g}', values)
    return values


def passes(
    layer: nn.Module, images: Tensor, grad: Tensor, device: str, dtype: torch.dtype, *formats: torch.memory_format
) -> list[Tensor]:
    """Output, and gradients of input and weights.

    Args:
        layer: On the CPU.
        images: Input [B, C, H, W].
        grad: Gradient of the output.
        device: Where the layer runs.
        dtype: Of all numbers.
        formats: Memory formats of weights, input and gradient.
    """
    of_weights, of_input, of_grad = formats
    layer = copy.deepcopy(layer).to(device, dtype).to(memory_format=of_weights)
    x = images.to(device, dtype, memory_format=of_input, copy=True).requires_grad_()
    output = layer(x)
    output.backward(grad.to(device, dtype, memory_format=of_grad))
    return [output, *(each.grad for each in (x, *layer.parameters()) if each.grad is not None)]
