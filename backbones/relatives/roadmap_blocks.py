"""The four residual blocks on the way from ResNet-50 to ConvNeXt-T.

Source: Liu et al., "A ConvNet for the 2020s", CVPR 2022 (https://arxiv.org/abs/2201.03545), figures 3 and 4. The last
block has the parameter names of timm's `ConvNeXtBlock`.

=================  ================================  ==================
block              convolutions                      channels
=================  ================================  ==================
``ResNetBlock``    pointwise, 3×3, pointwise         4C → C → C → 4C
``ResNeXtBlock``   pointwise, depthwise, pointwise   4C → C → C → 4C
``InvertedBlock``  pointwise, depthwise, pointwise   C → 4C → 4C → C
``ConvNeXtBlock``  depthwise, pointwise, pointwise   C → C → 4C → C
=================  ================================  ==================
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from timm.layers import DropPath, LayerNorm, create_conv2d
from torch import nn

MLP_RATIO = 4


@dataclass(frozen=True)
class BlockLayers:
    """The layers between the three convolutions of a block.

    Args:
        norms: After which of the convolutions, counted from 1, a norm stays.
        acts: After which of them an activation stays; the third follows the sum with the shortcut.
        norm_layer: Norm of a number of channels of [B, C, H, W].
        act_layer: Activation.
        conv_mlp: Pointwise layers are 1×1 convolutions, not linear layers.
    """

    norms: Sequence[int]
    acts: Sequence[int]
    norm_layer: type[nn.Module]
    act_layer: type[nn.Module]
    conv_mlp: bool

    def norm(self, position: int, chs: int, channels_last: bool = False) -> nn.Module:
        """The norm after a convolution, for [B, C, H, W] or [B, H, W, C]."""
        norm_layer = LayerNorm if channels_last else self.norm_layer
        return norm_layer(chs) if position in self.norms else nn.Identity()

    def act(self, position: int) -> nn.Module:
        """The activation after a convolution."""
        return self.act_layer() if position in self.acts else nn.Identity()

    def bias(self, position: int) -> bool:
        """Whether a convolution has a bias: not before a batch norm, which would subtract it again."""
        return not (position in self.norms and self.norm_layer is nn.BatchNorm2d)


class RoadmapBlock(nn.Module):
    """The common part of the blocks: a path of three convolutions, one of them spatial, beside a shortcut.

    ``out_ratio`` is the number of output channels over ``dim``.

    Args:
        layers: Norms and activations.
        in_chs: Input channels.
        dim: Base width of the stage.
        kernel_size: Side of the spatial convolution, odd.
        stride: Stride of the spatial convolution and of the shortcut.
        dilation: Dilation of the spatial convolution.
        project: Put a convolution and a norm on the shortcut, as where the shape changes.
        ls_init_value: Initial value of the per-channel scale ``gamma``; None leaves it out.
        drop_path: Probability of dropping the path of a sample in training.
    """

    out_ratio = 1

    def __init__(
        self,
        layers: BlockLayers,
        in_chs: int,
        dim: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        project: bool = False,
        ls_init_value: float | None = None,
        drop_path: float = 0.0,
    ):
        super().__init__()
        out_chs = self.out_ratio * dim
        self.gamma = nn.Parameter(ls_init_value * torch.ones(out_chs)) if ls_init_value is not None else None
        self.build_path(layers, in_chs, dim, dict(kernel_size=kernel_size, stride=stride, dilation=dilation))
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.act3 = layers.act(3)
        self.shortcut: nn.Module = nn.Identity()
        if project:
            bias = layers.norm_layer is not nn.BatchNorm2d
            conv = create_conv2d(in_chs, out_chs, 1, stride=stride, bias=bias)
            self.shortcut = nn.Sequential(conv, layers.norm_layer(out_chs))

    def build_path(self, layers: BlockLayers, in_chs: int, dim: int, spatial: dict) -> None:
        """Register the layers of the path, in the order in which they run."""
        raise NotImplementedError

    def forward_path(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to the summand of the shortcut [B, C', H/stride, W/stride]."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.forward_path(x)
        if self.gamma is not None:
            y = y * self.gamma.reshape(1, -1, 1, 1)
        return self.act3(self.drop_path(y) + self.shortcut(x))


class ResNetBlock(RoadmapBlock):
    """ResNet's bottleneck: pointwise, 3×3, pointwise; C → C/4 → C/4 → C."""

    inner_ratio, out_ratio, depthwise = 1, 4, False

    def build_path(self, layers, in_chs, dim, spatial):
        inner, out_chs = self.inner_ratio * dim, self.out_ratio * dim
        self.conv1 = create_conv2d(in_chs, inner, 1, bias=layers.bias(1))
        self.norm1, self.act1 = layers.norm(1, inner), layers.act(1)
        self.conv2 = create_conv2d(inner, inner, depthwise=self.depthwise, bias=layers.bias(2), **spatial)
        self.norm2, self.act2 = layers.norm(2, inner), layers.act(2)
        self.conv3 = create_conv2d(inner, out_chs, 1, bias=layers.bias(3))
        self.norm3 = layers.norm(3, out_chs)

    def forward_path(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act1(self.norm1(self.conv1(x)))
        x = self.act2(self.norm2(self.conv2(x)))
        return self.norm3(self.conv3(x))


class ResNeXtBlock(ResNetBlock):
    """`ResNetBlock` with a depthwise convolution in the middle (figure 3a)."""

    depthwise = True


class InvertedBlock(ResNeXtBlock):
    """`ResNeXtBlock` with its wide part in the middle, C → 4C → 4C → C (figure 3b)."""

    inner_ratio, out_ratio = MLP_RATIO, 1


class ConvNeXtBlock(RoadmapBlock):
    """The depthwise convolution moved up: depthwise, pointwise, pointwise; C → C → 4C → C (figure 3c)."""

    def build_path(self, layers, in_chs, dim, spatial):
        self.channels_last = channels_last = not layers.conv_mlp
        inner = MLP_RATIO * dim
        pointwise = nn.Linear if channels_last else partial(nn.Conv2d, kernel_size=1)
        self.conv_dw = create_conv2d(in_chs, in_chs, depthwise=True, bias=layers.bias(1), **spatial)
        self.norm, self.act1 = layers.norm(1, in_chs, channels_last), layers.act(1)
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=pointwise(in_chs, inner, bias=layers.bias(2)),
                norm=layers.norm(2, inner, channels_last),
                act=layers.act(2),
                fc2=pointwise(inner, dim, bias=layers.bias(3)),
            )
        )
        self.norm3 = layers.norm(3, dim)

    def forward_path(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_dw(x)
        if self.channels_last:
            x = x.permute(0, 2, 3, 1)
        x = self.mlp(self.act1(self.norm(x)))
        if self.channels_last:
            x = x.permute(0, 3, 1, 2)
        return self.norm3(x)
