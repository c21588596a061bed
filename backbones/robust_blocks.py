"""The four residual blocks of Robust-ResNet.

Source: Wang et al., "Can CNNs Be More Robust Than Transformers?", ICLR 2023 (https://arxiv.org/abs/2206.03452),
section 3 and its public code (https://github.com/UCSC-VLAA/RobustCNN), whose parameter names are kept.

Each block has one depthwise and two pointwise convolutions; the four differ in their order and width:

======================  ==================================  ==================
block                   convolutions                        channels
======================  ==================================  ==================
``DwBlock``             pointwise, depthwise, pointwise     C → C/4 → C/4 → C
``InvertedBlock``       pointwise, depthwise, pointwise     C → 4C → 4C → C
``UpInvertedBlock``     depthwise, pointwise, pointwise     C → C → 4C → C
``DownInvertedBlock``   pointwise, pointwise, depthwise     C → 4C → C → C
======================  ==================================  ==================

The robust form keeps one norm, after the first convolution, and one activation, after the one that widens.
"""

import torch
from timm.layers import DropPath
from torch import nn


class RobustBlock(nn.Module):
    """What the four blocks share: one path of three convolutions beside a shortcut.

    ``wide_output`` says that a block ends at its wide part; ``stride_last`` that a stage strides in its last
    block instead of its first.

    Args:
        in_chs: Input channels.
        dim: Base width of the stage.
        mlp_ratio: Width of the wide part over ``dim``.
        kernel_size: Side of the depthwise kernel, odd.
        stride: Stride of the depthwise convolution and of the shortcut.
        dilation: Dilation of the depthwise kernel.
        project: Put a convolution and a norm on the shortcut, as wherever the shape changes.
        layer_scale_init_value: Initial value of the per-channel scale ``gamma``; 0 or None leaves it out.
        drop_path: Probability of dropping the path of a sample in training.
        norm_layer: Norm of a number of channels.
        act_layer: Activation.
    """

    wide_output = False
    stride_last = False

    def __init__(
        self,
        in_chs: int,
        dim: int,
        mlp_ratio: float = 4.0,
        kernel_size: int = 7,
        stride: int = 1,
        dilation: int = 1,
        project: bool = False,
        layer_scale_init_value: float | None = None,
        drop_path: float = 0.0,
        norm_layer: type[nn.Module] = nn.BatchNorm2d,
        act_layer: type[nn.Module] = nn.ReLU,
    ):
        super().__init__()
        wide = int(mlp_ratio * dim)
        out_chs = wide if self.wide_output else dim
        self.gamma = nn.Parameter(layer_scale_init_value * torch.ones(out_chs)) if layer_scale_init_value else None
        depthwise = dict(kernel_size=kernel_size, stride=stride, dilation=dilation)
        self.build_path(in_chs, dim, wide, depthwise, norm_layer, act_layer)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_chs, out_chs, 1, stride=stride), norm_layer(out_chs))
            if project
            else nn.Identity()
        )

    def build_path(self, in_chs, dim, wide, depthwise, norm_layer, act_layer) -> None:
        """Register the path's layers, in the order in which they run."""
        raise NotImplementedError

    def add_residual(self, x: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        """Scale and drop the path [B, C, H, W], then add the shortcut of the block's input."""
        if self.gamma is not None:
            x = x * self.gamma.reshape(1, -1, 1, 1)
        return self.drop_path(x) + self.downsample(shortcut)


def depthwise_conv(in_chs: int, out_chs: int, kernel_size: int, stride: int, dilation: int) -> nn.Conv2d:
    """A depthwise convolution that keeps the size of its input, but for the stride."""
    padding = dilation * (kernel_size - 1) // 2
    return nn.Conv2d(in_chs, out_chs, kernel_size, stride, padding, dilation, groups=in_chs)


class DwBlock(RobustBlock):
    """ResNet's bottleneck with a depthwise convolution in the middle; its activation follows the sum."""

    wide_output = True

    def build_path(self, in_chs, dim, wide, depthwise, norm_layer, act_layer):
        self.pwconv1 = nn.Conv2d(in_chs, dim, 1)
        self.norm1 = norm_layer(dim)
        self.conv_dw = depthwise_conv(dim, dim, **depthwise)
        self.pwconv2 = nn.Conv2d(dim, wide, 1)
        self.act3 = act_layer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.norm1(self.pwconv1(x))
        y = self.pwconv2(self.conv_dw(y))
        return self.act3(self.add_residual(y, x))


class InvertedBlock(RobustBlock):
    """MobileNetV2's inverted bottleneck: the depthwise convolution works on the wide part."""

    def build_path(self, in_chs, dim, wide, depthwise, norm_layer, act_layer):
        self.pwconv1 = nn.Conv2d(in_chs, wide, 1)
        self.norm1 = norm_layer(wide)
        self.act1 = act_layer()
        self.conv_dw = depthwise_conv(wide, wide, **depthwise)
        self.pwconv2 = nn.Conv2d(wide, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.act1(self.norm1(self.pwconv1(x)))
        y = self.pwconv2(self.conv_dw(y))
        return self.add_residual(y, x)


class UpInvertedBlock(RobustBlock):
    """ConvNeXt's order: the depthwise convolution comes first, on the narrow part."""

    def build_path(self, in_chs, dim, wide, depthwise, norm_layer, act_layer):
        self.conv_dw = depthwise_conv(in_chs, dim, **depthwise)
        self.norm1 = norm_layer(dim)
        self.pwconv1 = nn.Conv2d(dim, wide, 1)
        self.act2 = act_layer()
        self.pwconv2 = nn.Conv2d(wide, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.norm1(self.conv_dw(x))
        y = self.pwconv2(self.act2(self.pwconv1(y)))
        return self.add_residual(y, x)


class DownInvertedBlock(RobustBlock):
    """The depthwise convolution comes last, on the narrow part; stages stride in their last block."""

    stride_last = True

    def build_path(self, in_chs, dim, wide, depthwise, norm_layer, act_layer):
        self.pwconv1 = nn.Conv2d(in_chs, wide, 1)
        self.norm2 = norm_layer(wide)
        self.act2 = act_layer()
        self.pwconv2 = nn.Conv2d(wide, dim, 1)
        self.conv_dw = depthwise_conv(dim, dim, **depthwise)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.act2(self.norm2(self.pwconv1(x)))
        y = self.conv_dw(self.pwconv2(y))
        return self.add_residual(y, x)
