"""Deformable convolutions in place of a trained model's 3×3 ones."""

from collections.abc import Iterable

from torch import Tensor, nn
from torchvision.ops import deform_conv2d

__all__ = ['DeformableConv', 'can_deform', 'deform_convolutions']


class DeformableConv(nn.Conv2d):
    """Modulated deformable convolution (DCNv2: Zhu et al., CVPR 2019) that takes over another convolution's weights.

    Each kernel position samples the input beside its usual place and is weighted by a number in (0, 1); a convolution
    over the same input predicts both. That one starts at zero: no shift, and a weight of one half, as in mmcv's
    ``DCNv2`` and in detectron2.

    Args:
        conv: The convolution to replace. Its weight and bias become this one's, under the same names.
    """

    def __init__(self, conv: nn.Conv2d):
        geometry = dict(stride=conv.stride, padding=conv.padding, dilation=conv.dilation)
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            **geometry,
            groups=conv.groups,
            bias=conv.bias is not None,
            device='meta',
        )
        self.weight, self.bias = conv.weight, conv.bias
        self.positions = conv.kernel_size[0] * conv.kernel_size[1]
        like = dict(device=conv.weight.device, dtype=conv.weight.dtype)
        self.offset = nn.Conv2d(conv.in_channels, 3 * self.positions, conv.kernel_size, **geometry, **like)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [B, in_channels, H, W], as the replaced convolution would, at shifted positions."""
        shift, weight = self.offset(x).split([2 * self.positions, self.positions], dim=1)
        return deform_conv2d(
            x, shift, self.weight, self.bias, self.stride, self.padding, self.dilation, mask=weight.sigmoid()
        )


def can_deform(module: nn.Module) -> bool:
    """Whether a layer is a 3×3 convolution; a subclass, such as one that pads by its input's size, is another layer."""
    return type(module) is nn.Conv2d and module.kernel_size == (3, 3) and not isinstance(module.padding, str)


def deform_convolutions(network: nn.Module, names: Iterable[str]) -> None:
    """Replace the convolutions of these names by deformable ones with their weights."""
    for name in names:
        parent, _, last = name.rpartition('.')
        setattr(network.get_submodule(parent), last, DeformableConv(network.get_submodule(name)))
