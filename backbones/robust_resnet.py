"""Robust-ResNet: CNNs that are as robust out of distribution as vision transformers.

Source: Wang et al., "Can CNNs Be More Robust Than Transformers?", ICLR 2023 (https://arxiv.org/abs/2206.03452)
and its public code (https://github.com/UCSC-VLAA/RobustCNN). State dicts are the original's, key for key.

Differs from the original code: `reset_classifier` works, nothing is printed, and patch size, kernel size and
output stride can be chosen.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead, calculate_drop_path_rates
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import nn

from backbones.robust_blocks import DownInvertedBlock, DwBlock, InvertedBlock, RobustBlock, UpInvertedBlock

__all__ = ['RobustResNet']

PATCH_SIZES = (4, 8, 16)
TOTAL_STRIDE = 32


class RobustStage(nn.Module):
    """A run of equal blocks, of which the first changes the width and the first or last may stride.

    Args:
        block: Block class.
        in_chs: Input channels.
        dim: Base width.
        depth: Number of blocks.
        strides: Stride of each block in the undilated network.
        dilations: Dilation of each block's depthwise kernel.
        dilated: No block strides: the stage's stride is replaced by dilation.
        drop_path_rates: Drop path rate of each block.
        mlp_ratio: Widening inside a block.
        block_args: Further arguments of every block.
    """

    def __init__(
        self,
        block: type[RobustBlock],
        in_chs: int,
        dim: int,
        strides: Sequence[int],
        dilations: Sequence[int],
        dilated: bool,
        drop_path_rates: Sequence[float],
        mlp_ratio: float,
        **block_args,
    ):
        super().__init__()
        self.grad_checkpointing = False
        self.num_chs = int(mlp_ratio * dim) if block.wide_output else dim
        blocks = []
        for stride, dilation, drop_path in zip(strides, dilations, drop_path_rates, strict=True):
            blocks.append(
                block(
                    in_chs,
                    dim,
                    mlp_ratio=mlp_ratio,
                    stride=1 if dilated else stride,
                    dilation=dilation,
                    project=stride > 1 or in_chs != self.num_chs,
                    drop_path=drop_path,
                    **block_args,
                )
            )
            in_chs = self.num_chs
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to the next stage's."""
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.blocks, x)
        return self.blocks(x)


class RobustResNet(nn.Module):
    """A patchify stem, four stages of one kind of block, average pooling and a linear classifier.

    The total stride is 32 whatever the patch: with a patch of 16 only the last stage strides, with 8 the last
    two, with 4 the last three. Blocks that stride last (Down) do so at the end of the stage before.

    Args:
        block: One of the four block classes.
        in_chans: Input channels.
        num_classes: Classes; 0 leaves the classifier out.
        global_pool: timm's name of the pooling.
        output_stride: Stride of the last map; strides beyond it become dilation.
        patch_size: Side and stride of the stem's patches: 4, 8 or 16.
        depths: Blocks of each stage.
        dims: Base width of each stage.
        kernel_size: Side of the depthwise kernels, odd.
        mlp_ratio: Widening inside a block.
        layer_scale_init_value: Initial layer scale; 0 or None leaves it out, as in the released checkpoints.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Drop path of the last block; earlier ones rise to it linearly from 0.
        norm_layer: Norm layer.
        act_layer: Activation layer.

    Raises:
        ValueError: An argument has a value that the network cannot be built with.
    """

    def __init__(
        self,
        block: type[RobustBlock],
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = 'avg',
        output_stride: int = TOTAL_STRIDE,
        patch_size: int = 16,
        depths: Sequence[int] = (3, 4, 12, 3),
        dims: Sequence[int] = (96, 192, 384, 768),
        kernel_size: int = 11,
        mlp_ratio: float = 4.0,
        layer_scale_init_value: float | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_layer: type[nn.Module] = nn.BatchNorm2d,
        act_layer: type[nn.Module] = nn.ReLU,
    ):
        super().__init__()
        _check_arguments(block, patch_size, output_stride, kernel_size, depths, dims)
        self.num_classes = num_classes
        self.drop_rate = drop_rate
        self.feature_info = []
        self.stem = nn.Conv2d(in_chans, dims[0], patch_size, patch_size)

        num_striding = round(math.log2(TOTAL_STRIDE // patch_size))
        first_striding = len(depths) - num_striding - int(block.stride_last)
        drop_path_rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        chs, reduction, dilation = dims[0], patch_size, 1
        stages = []
        for i, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
            striding = first_striding <= i < first_striding + num_striding
            at = depth - 1 if block.stride_last else 0
            strides = [2 if striding and j == at else 1 for j in range(depth)]
            dilated = striding and reduction >= output_stride
            # The block that gave up its stride still sees the map it would have seen: only later ones dilate.
            dilations = [dilation * (2 if dilated and j > at else 1) for j in range(depth)]
            dilation *= 2 if dilated else 1
            reduction *= 2 if striding and not dilated else 1
            stage = RobustStage(
                block,
                chs,
                dim,
                strides,
                dilations,
                dilated,
                drop_path_rates[i],
                mlp_ratio,
                kernel_size=kernel_size,
                layer_scale_init_value=layer_scale_init_value,
                norm_layer=norm_layer,
                act_layer=act_layer,
            )
            chs = stage.num_chs
            stages.append(stage)
            self.feature_info.append(dict(num_chs=chs, reduction=reduction, module=f'stages.{i}'))
        self.stages = nn.Sequential(*stages)

        self.num_features = self.head_hidden_size = chs
        self.head = ClassifierHead(chs, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        self.init_weights()

    @torch.jit.ignore
    def init_weights(self) -> None:
        """Initialise as the original does: He normal by fan-out, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
                nn.init.zeros_(module.bias)

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict:
        """Patterns that sort parameters into layers, stem to head."""
        return dict(stem=r'^stem', blocks=r'^stages\.(\d+)' if coarse else r'^stages\.(\d+)\.blocks\.(\d+)')

    @torch.jit.ignore
    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block's activations in the backward pass instead of keeping them."""
        for stage in self.stages:
            stage.grad_checkpointing = enable

    @torch.jit.ignore
    def get_classifier(self) -> nn.Module:
        """The final linear layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier, and the pooling if one is named."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ):
        """Features of chosen stages.

        Args:
            x: Normalised images [B, 3, H, W].
            indices: Stages to return: the last n, a list of them, or all.
            norm: Ignored, there is no final norm.
            stop_early: Leave out the stages after the last chosen one.
            output_fmt: ``NCHW``, the only one.
            intermediates_only: Return the list alone.

        Returns:
            The final features and the list of [B, C_i, H/s_i, W/s_i], or the list alone.
        """
        if output_fmt != 'NCHW':
            raise ValueError(f"output_fmt '{output_fmt}' is not available; choose NCHW")
        take_indices, max_index = feature_take_indices(len(self.stages), indices)
        intermediates = []
        x = self.stem(x)
        stages = self.stages[: max_index + 1] if stop_early else self.stages
        for i, stage in enumerate(stages):
            x = stage(x)
            if i in take_indices:
                intermediates.append(x)
        return intermediates if intermediates_only else (x, intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the stages after the last chosen one, and the head if asked or if it no longer fits."""
        take_indices, max_index = feature_take_indices(len(self.stages), indices)
        shortened = max_index < len(self.stages) - 1
        self.stages = self.stages[: max_index + 1]
        self.num_features = self.head_hidden_size = self.feature_info[max_index]['num_chs']
        if prune_head or shortened:
            self.head.reset(0, '', in_features=self.num_features)
            self.num_classes = 0
        return take_indices

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, 3, H, W] to the last stage's features [B, C, H/32, W/32]."""
        return self.stages(self.stem(x))

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Map features to logits [B, K], or to pooled features [B, C]."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images [B, 3, H, W] to logits [B, K]."""
        return self.forward_head(self.forward_features(x))


def _check_arguments(block, patch_size, output_stride, kernel_size, depths, dims) -> None:
    if patch_size not in PATCH_SIZES:
        raise ValueError(f'patch_size {patch_size} is not available; choose from {_choices(PATCH_SIZES)}')
    output_strides = [s for s in (4, 8, 16, 32) if s >= patch_size]
    if output_stride not in output_strides:
        raise ValueError(
            f'output_stride {output_stride} is not available with patch_size {patch_size}; '
            f'choose from {_choices(output_strides)}'
        )
    if kernel_size % 2 == 0 or kernel_size < 1:
        raise ValueError(f'kernel_size {kernel_size} is not odd; choose from 3, 5, 7, 9, 11, 13')
    if len(depths) != 4 or len(dims) != 4 or min(*depths, *dims) < 1:
        raise ValueError(f'depths {tuple(depths)} and dims {tuple(dims)} must be four positive numbers each')
    if block is UpInvertedBlock and any(b % a for a, b in itertools.pairwise(dims)):
        raise ValueError(f'dims {tuple(dims)} must each be a multiple of the one before for Up-Inverted')


def _choices(values: Sequence[int]) -> str:
    return ', '.join(map(str, values))


def _cfg(**kwargs) -> dict:
    return {
        'num_classes': 1000,
        'input_size': (3, 224, 224),
        'pool_size': (7, 7),
        'crop_pct': 0.875,
        'interpolation': 'bicubic',
        'mean': IMAGENET_DEFAULT_MEAN,
        'std': IMAGENET_DEFAULT_STD,
        'first_conv': 'stem',
        'classifier': 'head.fc',
        'paper_ids': 'arXiv:2206.03452',
        'origin_url': 'https://github.com/UCSC-VLAA/RobustCNN',
        **kwargs,
    }


default_cfgs = generate_default_cfgs(
    {
        'robust_resnet_dw_small': _cfg(),
        'robust_resnet_inverted_dw_small': _cfg(),
        'robust_resnet_up_inverted_dw_small': _cfg(),
        'robust_resnet_down_inverted_dw_small': _cfg(),
    }
)


def _create_robust_resnet(variant: str, pretrained: bool = False, **kwargs) -> RobustResNet:
    return build_model_with_cfg(
        RobustResNet,
        variant,
        pretrained,
        feature_cfg=dict(out_indices=(0, 1, 2, 3), flatten_sequential=True),
        **kwargs,
    )


@register_model
def robust_resnet_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-DW-S: 38.6 M parameters, 4.47 GMACs at 224×224, 79.4 % on ImageNet."""
    args = dict(block=DwBlock, depths=(3, 4, 12, 3), kernel_size=11)
    return _create_robust_resnet('robust_resnet_dw_small', pretrained, **dict(args, **kwargs))


@register_model
def robust_resnet_inverted_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Inverted-DW-S: 33.6 M parameters, 4.57 GMACs at 224×224, 79.0 % on ImageNet."""
    args = dict(block=InvertedBlock, depths=(3, 4, 14, 3), kernel_size=7)
    return _create_robust_resnet('robust_resnet_inverted_dw_small', pretrained, **dict(args, **kwargs))


@register_model
def robust_resnet_up_inverted_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Up-Inverted-DW-S: 34.4 M parameters, 4.42 GMACs at 224×224, 79.2 % on ImageNet."""
    args = dict(block=UpInvertedBlock, depths=(3, 4, 14, 3), kernel_size=11)
    return _create_robust_resnet('robust_resnet_up_inverted_dw_small', pretrained, **dict(args, **kwargs))


@register_model
def robust_resnet_down_inverted_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Down-Inverted-DW-S: 34.3 M parameters, 4.53 GMACs at 224×224, 79.9 % on ImageNet."""
    args = dict(block=DownInvertedBlock, depths=(3, 4, 15, 3), kernel_size=11)
    return _create_robust_resnet('robust_resnet_down_inverted_dw_small', pretrained, **dict(args, **kwargs))
