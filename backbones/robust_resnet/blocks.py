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

A norm and an activation may follow each of the three convolutions; the last norm comes before the sum with the
shortcut, the last activation after it. The robust form keeps one norm, after the first convolution, and one activation,
after the one that widens; the baselines keep all.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from timm.layers import DropPath
from torch import nn

from backbones.messages import choices
from backbones.robust_resnet.layout import StageLayout
from backbones.robust_resnet.rep_depthwise import RepDepthwise, depthwise_conv
from backbones.staged import Stage

KERNEL_SIZES = (3, 5, 7, 9, 11, 13)
POSITIONS = (1, 2, 3)

RELU = partial(nn.ReLU, inplace=True)
"""In place: no layer before it needs its own output again, and the widest map of a block need not be kept twice."""


class RobustBlock(nn.Module):
    """The common part of the four blocks: one path of three convolutions beside a shortcut.

    Class attributes:
        wide_output: The output is as wide as the wide part of the block.
        stride_last: A stage strides in its last block instead of its first.
        robust_acts: Positions of the activation in the robust form.
        path: Names of the convolutions and of the norms after them, in the order in which they run.

    Args:
        in_chs: Input channels.
        dim: Base width of the stage.
        mlp_ratio: Width of the wide part over ``dim``.
        kernel_size: Side of the depthwise kernel, odd.
        small_kernel_size: Side of a second, parallel depthwise kernel, odd; None for none.
        stride: Stride of the depthwise convolution and of the shortcut.
        dilation: Dilation of the depthwise kernel.
        project: Put a convolution and a norm on the shortcut, as where the shape changes.
        norms: Convolutions 1, 2, 3 that a norm follows; None for the robust form.
        acts: Convolutions that an activation follows; None for the robust form.
        layer_scale_init_value: Initial value of the per-channel scale ``gamma``; 0 or None leaves it out.
        drop_path: Probability of dropping the path of a sample in training.
        norm_layer: Norm of a number of channels.
        act_layer: Activation.
    """

    wide_output = False
    stride_last = False
    robust_acts = (1,)
    path = (('pwconv1', 'norm1'), ('conv_dw', 'norm2'), ('pwconv2', 'norm3'))

    def __init__(
        self,
        in_chs: int,
        dim: int,
        mlp_ratio: float = 4.0,
        kernel_size: int = 7,
        small_kernel_size: int | None = None,
        stride: int = 1,
        dilation: int = 1,
        project: bool = False,
        norms: Sequence[int] | None = None,
        acts: Sequence[int] | None = None,
        layer_scale_init_value: float | None = None,
        drop_path: float = 0.0,
        norm_layer: type[nn.Module] = nn.BatchNorm2d,
        act_layer: Callable[..., nn.Module] = RELU,
    ):
        super().__init__()
        norms = (1,) if norms is None else norms
        acts = self.robust_acts if acts is None else acts
        wide = int(mlp_ratio * dim)
        out_chs = wide if self.wide_output else dim
        self.gamma = nn.Parameter(layer_scale_init_value * torch.ones(out_chs)) if layer_scale_init_value else None

        def depthwise(in_chs: int, out_chs: int) -> nn.Module:
            if small_kernel_size:
                return RepDepthwise(in_chs, out_chs, kernel_size, small_kernel_size, stride, dilation)
            return depthwise_conv(in_chs, out_chs, kernel_size, stride, dilation)

        def norm(position: int, chs: int) -> nn.Module:
            return norm_layer(chs) if position in norms else nn.Identity()

        def act(position: int) -> nn.Module:
            return act_layer() if position in acts else nn.Identity()

        self.build_path(in_chs, dim, wide, depthwise, norm, act)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.downsample = (
            nn.Sequential(nn.Conv2d(in_chs, out_chs, 1, stride=stride), norm_layer(out_chs))
            if project
            else nn.Identity()
        )

    def build_path(self, in_chs: int, dim: int, wide: int, depthwise: Callable, norm: Callable, act: Callable) -> None:
        """Register the layers of the path, in the order in which they run."""
        raise NotImplementedError

    def add_residual(self, x: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        """Scale and drop the path [B, C, H, W], then add the shortcut of the block's input."""
        if self.gamma is not None:
            x = x * self.gamma.reshape(1, -1, 1, 1)
        return self.drop_path(x) + self.downsample(shortcut)


class DwBlock(RobustBlock):
    """ResNet's bottleneck with a depthwise convolution in the middle."""

    wide_output = True
    robust_acts = (3,)

    def build_path(self, in_chs, dim, wide, depthwise, norm, act):
        self.pwconv1 = nn.Conv2d(in_chs, dim, 1)
        self.norm1 = norm(1, dim)
        self.act1 = act(1)
        self.conv_dw = depthwise(dim, dim)
        self.norm2 = norm(2, dim)
        self.act2 = act(2)
        self.pwconv2 = nn.Conv2d(dim, wide, 1)
        self.norm3 = norm(3, wide)
        self.act3 = act(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.act1(self.norm1(self.pwconv1(x)))
        y = self.act2(self.norm2(self.conv_dw(y)))
        y = self.norm3(self.pwconv2(y))
        return self.act3(self.add_residual(y, x))


class InvertedBlock(RobustBlock):
    """MobileNetV2's inverted bottleneck: the depthwise convolution works on the wide part."""

    def build_path(self, in_chs, dim, wide, depthwise, norm, act):
        self.pwconv1 = nn.Conv2d(in_chs, wide, 1)
        self.norm1 = norm(1, wide)
        self.act1 = act(1)
        self.conv_dw = depthwise(wide, wide)
        self.norm2 = norm(2, wide)
        self.act2 = act(2)
        self.pwconv2 = nn.Conv2d(wide, dim, 1)
        self.norm3 = norm(3, dim)
        self.act3 = act(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.act1(self.norm1(self.pwconv1(x)))
        y = self.act2(self.norm2(self.conv_dw(y)))
        y = self.norm3(self.pwconv2(y))
        return self.act3(self.add_residual(y, x))


class UpInvertedBlock(RobustBlock):
    """ConvNeXt's order: the depthwise convolution comes first, on the narrow part."""

    robust_acts = (2,)
    path = (('conv_dw', 'norm1'), ('pwconv1', 'norm2'), ('pwconv2', 'norm3'))

    def build_path(self, in_chs, dim, wide, depthwise, norm, act):
        self.conv_dw = depthwise(in_chs, dim)
        self.norm1 = norm(1, dim)
        self.act1 = act(1)
        self.pwconv1 = nn.Conv2d(dim, wide, 1)
        self.norm2 = norm(2, wide)
        self.act2 = act(2)
        self.pwconv2 = nn.Conv2d(wide, dim, 1)
        self.norm3 = norm(3, dim)
        self.act3 = act(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.act1(self.norm1(self.conv_dw(x)))
        y = self.act2(self.norm2(self.pwconv1(y)))
        y = self.norm3(self.pwconv2(y))
        return self.act3(self.add_residual(y, x))


class DownInvertedBlock(RobustBlock):
    """The depthwise convolution comes last, on the narrow part; stages stride in their last block.

    Layers are numbered as in `UpInvertedBlock`, which the released checkpoints require: the first norm is ``norm2``,
    the norm of the depthwise convolution ``norm1``.
    """

    stride_last = True
    path = (('pwconv1', 'norm2'), ('pwconv2', 'norm3'), ('conv_dw', 'norm1'))

    def build_path(self, in_chs, dim, wide, depthwise, norm, act):
        self.pwconv1 = nn.Conv2d(in_chs, wide, 1)
        self.norm2 = norm(1, wide)
        self.act2 = act(1)
        self.pwconv2 = nn.Conv2d(wide, dim, 1)
        self.norm3 = norm(2, dim)
        self.act3 = act(2)
        self.conv_dw = depthwise(dim, dim)
        self.norm1 = norm(3, dim)
        self.act1 = act(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.act2(self.norm2(self.pwconv1(x)))
        y = self.act3(self.norm3(self.pwconv2(y)))
        y = self.norm1(self.conv_dw(y))
        return self.act1(self.add_residual(y, x))


class RobustStage(nn.Module):
    """A run of equal blocks, of which the first changes the width and the first or last may stride.

    Args:
        block: Block class.
        in_chs: Input channels.
        dim: Base width.
        layout: Strides and dilations.
        drop_path_rates: Drop path rate of each block.
        mlp_ratio: Widening inside a block.
        block_args: Further arguments of every block.
    """

    def __init__(
        self,
        block: type[RobustBlock],
        in_chs: int,
        dim: int,
        layout: StageLayout,
        drop_path_rates: Sequence[float],
        mlp_ratio: float,
        **block_args,
    ):
        super().__init__()
        self.num_chs = int(mlp_ratio * dim) if block.wide_output else dim
        blocks = []
        for stride, dilation, drop_path in zip(layout.strides, layout.dilations, drop_path_rates, strict=True):
            blocks.append(
                block(
                    in_chs,
                    dim,
                    mlp_ratio=mlp_ratio,
                    stride=1 if layout.dilated else stride,
                    dilation=dilation,
                    project=stride > 1 or in_chs != self.num_chs,
                    drop_path=drop_path,
                    **block_args,
                )
            )
            in_chs = self.num_chs
        self.blocks = Stage(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to those of the next stage."""
        return self.blocks(x)


def check_blocks(
    block: type[RobustBlock],
    kernel_size: int,
    small_kernel_size: int | None,
    norms: Sequence[int] | None,
    acts: Sequence[int] | None,
    depths: Sequence[int],
    dims: Sequence[int],
) -> None:
    """Raise a ValueError for arguments that no network can be built with."""
    if kernel_size not in KERNEL_SIZES:
        raise ValueError(f'kernel_size {kernel_size} is not available; choose from {choices(KERNEL_SIZES)}')
    smaller = [size for size in (1, *KERNEL_SIZES) if size < kernel_size]
    if small_kernel_size and small_kernel_size not in smaller:
        raise ValueError(
            f'small_kernel_size {small_kernel_size} is not available with kernel_size {kernel_size}; '
            f'choose from {choices(smaller)}'
        )
    for what, positions in (('norms', norms), ('acts', acts)):
        if positions is not None and (isinstance(positions, int) or not set(positions) <= set(POSITIONS)):
            raise ValueError(f'{what} {positions} is no tuple of positions; choose from {choices(POSITIONS)}')
    if len(depths) != 4 or len(dims) != 4 or min(*depths, *dims) < 1:
        raise ValueError(f'depths {tuple(depths)} and dims {tuple(dims)} must be four positive numbers each')
    if block is UpInvertedBlock and any(b % a for a, b in itertools.pairwise(dims)):
        raise ValueError(f'dims {tuple(dims)} must each be a multiple of the one before for Up-Inverted')
