"""Deformable convolutions in place of a trained model's 3×3 ones."""

from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, nn
from torchvision.ops import deform_conv2d

__all__ = ['DeformableConv', 'can_deform', 'deform_convolutions']


class DeformableConv(nn.Conv2d):
    """Modulated deformable convolution (DCNv2: Zhu et al., CVPR 2019) that takes over another convolution's weights.

    Each kernel position samples the input beside its usual place and is weighted by a number in (0, 1). A convolution
    over the same input predicts shifts and weights; it starts at zero: no shift, and a weight of one half, as in mmcv's
    ``DCNv2`` and in detectron2.

    Args:
        conv: Convolution to replace. The new layer has the same weight and bias, under the same names.
    """

    def __init__(self, conv: nn.Conv2d):
        geometry: dict[str, Any] = dict(stride=conv.stride, padding=conv.padding, dilation=conv.dilation)
        height, width = conv.kernel_size
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            (height, width),
            **geometry,
            groups=conv.groups,
            bias=conv.bias is not None,
            device='meta',
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.positions = height * width
        geometry.update(device=conv.weight.device, dtype=conv.weight.dtype)
        self.offset = nn.Conv2d(conv.in_channels, 3 * self.positions, (height, width), **geometry)
        for parameter in self.offset.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map features [B, C, H, W] to the shape that the replaced convolution gives them."""
        shift, weight = self.offset(x).split([2 * self.positions, self.positions], dim=1)
        return deform_conv2d(
            x, shift, self.weight, self.bias, self.stride, self.padding, self.dilation, mask=weight.sigmoid()
        )


def can_deform(module: nn.Module) -> bool:
    """Whether a layer is a plain 3×3 convolution; subclasses, such as one that pads by the input size, are not."""
    return type(module) is nn.Conv2d and module.kernel_size == (3, 3) and not isinstance(module.padding, str)


def deform_convolutions(network: nn.Module, names: Iterable[str]) -> None:
    """Replace the convolutions of these names by deformable convolutions with the same weights."""
    for name in names:
        parent, _, last = name.rpartition('.')
        conv = cast(nn.Conv2d, network.get_submodule(name))
        setattr(network.get_submodule(parent), last, DeformableConv(conv))
