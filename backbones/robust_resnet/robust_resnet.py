"""Robust-ResNet: CNNs that are as robust out of distribution as vision transformers, and the models they come from.

Source: Wang et al., "Can CNNs Be More Robust Than Transformers?", ICLR 2023 (https://arxiv.org/abs/2206.03452)
and its public code (https://github.com/UCSC-VLAA/RobustCNN). State dicts are the original's, key for key.

The paper's path from a baseline to a robust model is made of arguments. From `resnet_dw_small`: ``stem='patch',
patch_size=16`` is the stem alone, ``kernel_size=11`` the kernel alone, ``norms=(1,), acts=(3,)`` fewer norms and
activations alone.

Differs from the original code: `reset_classifier` works, nothing is printed, and the whole design space is there.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import ClassifierHead, calculate_drop_path_rates
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import nn

from backbones.robust_resnet.blocks import (
    POSITIONS,
    RELU,
    DownInvertedBlock,
    DwBlock,
    InvertedBlock,
    RobustBlock,
    RobustStage,
    UpInvertedBlock,
    check_blocks,
)
from backbones.robust_resnet.stems import check_stem, create_stem, resample_stem

__all__ = ['RobustResNet']

TOTAL_STRIDE = 32


class RobustResNet(nn.Module):
    """A stem, four stages of one kind of block, average pooling and a linear classifier.

    The total stride is 32 whatever the stem: with a patch of 16 or the convolutional stem only the last stage
    strides, with 8 the last two, with 4 or the ResNet stem the last three. Blocks that stride last (Down) do so at the
    end of the stage before. Only a ``stem_stride`` below the patch size makes the total smaller, by the same factor.

    Args:
        block: One of the four block classes.
        in_chans: Input channels.
        num_classes: Classes; 0 leaves the classifier out.
        global_pool: timm's name of the pooling.
        output_stride: Stride of the last map; strides beyond it become dilation.
        stem: ``patch``, ``resnet`` or ``conv``.
        patch_size: Side of the patches of the ``patch`` stem: 4, 8 or 16, which is the default.
        stem_stride: Step from patch to patch; the patch size unless given. If smaller, the stem and all depthwise
            kernels are dilated ("à trous"): the weights of the undilated model give a denser version of its maps.
        depths: Blocks of each stage.
        dims: Base width of each stage.
        kernel_size: Side of the depthwise kernels, odd.
        small_kernel_size: Side of a second depthwise kernel in training, odd and smaller (see `RepDepthwise`).
        mlp_ratio: Widening inside a block.
        norms: After which of a block's convolutions 1, 2, 3 a norm stays; None for the robust form, (1,).
        acts: After which of them an activation stays; None for the robust form, the one that widens.
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
        stem: str = 'patch',
        patch_size: int | None = None,
        stem_stride: int | None = None,
        depths: Sequence[int] = (3, 4, 12, 3),
        dims: Sequence[int] = (96, 192, 384, 768),
        kernel_size: int = 11,
        small_kernel_size: int | None = None,
        mlp_ratio: float = 4.0,
        norms: Sequence[int] | None = None,
        acts: Sequence[int] | None = None,
        layer_scale_init_value: float | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        norm_layer: type[nn.Module] = nn.BatchNorm2d,
        act_layer: Callable[..., nn.Module] = RELU,
    ):
        super().__init__()
        patch_size, stem_stride = check_stem(stem, patch_size, stem_stride, output_stride)
        check_blocks(block, kernel_size, small_kernel_size, norms, acts, depths, dims)
        self.num_classes = num_classes
        self.drop_rate = drop_rate
        self.feature_info = []
        self.stem = create_stem(stem, in_chans, dims[0], patch_size, stem_stride, norm_layer, act_layer)

        num_striding = round(math.log2(TOTAL_STRIDE // patch_size))
        first_striding = len(depths) - num_striding - int(block.stride_last)
        drop_path_rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        chs, reduction, dilation = dims[0], stem_stride, patch_size // stem_stride
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
                small_kernel_size=small_kernel_size,
                norms=norms,
                acts=acts,
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
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @torch.jit.ignore
    def fit_weights(self, weights: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """Resample the patchify stem of a state dict to this model's patch size, if it has another."""
        given = weights.get('stem.weight')
        if not isinstance(self.stem, nn.Conv2d) or given is None or given.shape[-1] == self.stem.kernel_size[-1]:
            return weights
        return resample_stem(weights, self.stem.kernel_size[-1])

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor], *args, **kwargs):
        """Load weights as any module does, those of a model with another patch size too."""
        return super().load_state_dict(self.fit_weights(state_dict), *args, **kwargs)

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


BLOCK_NAMES = ('dw', 'inverted_dw', 'up_inverted_dw', 'down_inverted_dw')
default_cfgs = generate_default_cfgs(
    {f'robust_resnet_{block}_{size}': _cfg() for size in ('small', 'base', 'small_rep') for block in BLOCK_NAMES}
    | {f'resnet_{block}_small': _cfg(first_conv='stem.0') for block in BLOCK_NAMES}
)

# The released small models. The public code has no others: their third stages have the number of blocks that brings the
# whole nearest to the paper's aim, 4.60 GMACs (DeiT-S) for baselines and 17.56 GMACs (DeiT-B) for the base size.
DW_S = dict(block=DwBlock, depths=(3, 4, 12, 3), kernel_size=11)
INVERTED_S = dict(block=InvertedBlock, depths=(3, 4, 14, 3), kernel_size=7)
UP_S = dict(block=UpInvertedBlock, depths=(3, 4, 14, 3), kernel_size=11)
DOWN_S = dict(block=DownInvertedBlock, depths=(3, 4, 15, 3), kernel_size=11)
BASE = dict(dims=(128, 256, 512, 1024))
BASELINE = dict(stem='resnet', kernel_size=3, norms=POSITIONS, acts=POSITIONS)
REP = dict(small_kernel_size=5)


def _create(variant: str, pretrained: bool, defaults: dict, kwargs: dict) -> RobustResNet:
    args = {**defaults, **kwargs}
    first_conv = 'stem' if args.get('stem', 'patch') == 'patch' else 'stem.0'
    args['pretrained_cfg_overlay'] = {'first_conv': first_conv, **(args.get('pretrained_cfg_overlay') or {})}
    return build_model_with_cfg(
        RobustResNet,
        variant,
        pretrained,
        feature_cfg=dict(out_indices=(0, 1, 2, 3), flatten_sequential=True),
        **args,
    )


@register_model
def robust_resnet_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-DW-S: 38.6 M parameters, 4.47 GMACs at 224×224, 79.4 % on ImageNet."""
    return _create('robust_resnet_dw_small', pretrained, DW_S, kwargs)


@register_model
def robust_resnet_inverted_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Inverted-DW-S: 33.6 M parameters, 4.57 GMACs at 224×224, 79.0 % on ImageNet."""
    return _create('robust_resnet_inverted_dw_small', pretrained, INVERTED_S, kwargs)


@register_model
def robust_resnet_up_inverted_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Up-Inverted-DW-S: 34.4 M parameters, 4.42 GMACs at 224×224, 79.2 % on ImageNet."""
    return _create('robust_resnet_up_inverted_dw_small', pretrained, UP_S, kwargs)


@register_model
def robust_resnet_down_inverted_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Down-Inverted-DW-S: 34.3 M parameters, 4.53 GMACs at 224×224, 79.9 % on ImageNet."""
    return _create('robust_resnet_down_inverted_dw_small', pretrained, DOWN_S, kwargs)


@register_model
def robust_resnet_dw_small_rep(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-DW-S in training form: 38.8 M parameters, 4.50 GMACs at 224×224."""
    return _create('robust_resnet_dw_small_rep', pretrained, dict(DW_S, **REP), kwargs)


@register_model
def robust_resnet_inverted_dw_small_rep(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Inverted-DW-S in training form: 34.7 M parameters, 4.70 GMACs at 224×224."""
    return _create('robust_resnet_inverted_dw_small_rep', pretrained, dict(INVERTED_S, **REP), kwargs)


@register_model
def robust_resnet_up_inverted_dw_small_rep(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Up-Inverted-DW-S in training form: 34.7 M parameters, 4.45 GMACs at 224×224."""
    return _create('robust_resnet_up_inverted_dw_small_rep', pretrained, dict(UP_S, **REP), kwargs)


@register_model
def robust_resnet_down_inverted_dw_small_rep(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Down-Inverted-DW-S in training form: 34.6 M parameters, 4.56 GMACs at 224×224."""
    return _create('robust_resnet_down_inverted_dw_small_rep', pretrained, dict(DOWN_S, **REP), kwargs)


@register_model
def robust_resnet_dw_base(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-DW-B: 116.4 M parameters, 17.61 GMACs at 224×224."""
    return _create('robust_resnet_dw_base', pretrained, dict(DW_S, **BASE, depths=(3, 4, 35, 3)), kwargs)


@register_model
def robust_resnet_inverted_dw_base(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Inverted-DW-B: 107.1 M parameters, 17.47 GMACs at 224×224."""
    return _create('robust_resnet_inverted_dw_base', pretrained, dict(INVERTED_S, **BASE, depths=(3, 4, 36, 3)), kwargs)


@register_model
def robust_resnet_up_inverted_dw_base(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Up-Inverted-DW-B: 110.1 M parameters, 17.51 GMACs at 224×224."""
    return _create('robust_resnet_up_inverted_dw_base', pretrained, dict(UP_S, **BASE, depths=(3, 4, 37, 3)), kwargs)


@register_model
def robust_resnet_down_inverted_dw_base(pretrained: bool = False, **kwargs) -> RobustResNet:
    """Robust-ResNet-Down-Inverted-DW-B: 109.9 M parameters, 17.70 GMACs at 224×224."""
    return _create(
        'robust_resnet_down_inverted_dw_base', pretrained, dict(DOWN_S, **BASE, depths=(3, 4, 38, 3)), kwargs
    )


@register_model
def resnet_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """ResNet-DW-S, the baseline: 28.2 M parameters, 4.50 GMACs at 224×224."""
    return _create('resnet_dw_small', pretrained, dict(DW_S, **BASELINE, depths=(3, 4, 4, 3)), kwargs)


@register_model
def resnet_inverted_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """ResNet-Inverted-DW-S, the baseline: 23.8 M parameters, 4.58 GMACs at 224×224."""
    return _create('resnet_inverted_dw_small', pretrained, dict(INVERTED_S, **BASELINE, depths=(3, 4, 7, 3)), kwargs)


@register_model
def resnet_up_inverted_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """ResNet-Up-Inverted-DW-S, the baseline: 27.5 M parameters, 4.63 GMACs at 224×224."""
    return _create('resnet_up_inverted_dw_small', pretrained, dict(UP_S, **BASELINE, depths=(3, 4, 9, 3)), kwargs)


@register_model
def resnet_down_inverted_dw_small(pretrained: bool = False, **kwargs) -> RobustResNet:
    """ResNet-Down-Inverted-DW-S, the baseline: 27.4 M parameters, 4.71 GMACs at 224×224."""
    return _create('resnet_down_inverted_dw_small', pretrained, dict(DOWN_S, **BASELINE, depths=(3, 4, 10, 3)), kwargs)
