"""Robust-ResNet: CNNs that are as robust out of distribution as vision transformers, and the models they come from.

Source: Wang et al., "Can CNNs Be More Robust Than Transformers?", ICLR 2023 (https://arxiv.org/abs/2206.03452)
and its public code (https://github.com/UCSC-VLAA/RobustCNN). State dicts are the original's, key for key.

Arguments lead from a baseline to a robust model, as in the paper. From `resnet_dw_small`: ``stem='patch',
patch_size=16`` changes the stem alone, ``kernel_size=11`` the kernel alone, ``norms=(1,), acts=(3,)`` norms and
activations alone.

Differs from the original code: `reset_classifier` works, the constructor prints nothing, and every combination of the
paper's components can be built.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from timm.layers import calculate_drop_path_rates
from timm.models import generate_default_cfgs, register_model
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
from backbones.robust_resnet.layout import TOTAL_STRIDE, lay_out
from backbones.robust_resnet.stems import check_stem, create_stem, fit_stem
from backbones.staged import StagedNet, build_staged, imagenet_cfg

__all__ = ['RobustResNet']


class RobustResNet(StagedNet):
    """A stem, four stages of one kind of block, average pooling and a linear classifier.

    The total stride is 32 with every stem: with a patch of 16 or the convolutional stem only the last stage strides,
    with 8 the last two, with 4 or the ResNet stem the last three. Blocks that stride last (Down) do so at the end of
    the stage before. Only a ``stem_stride`` below the patch size makes the total smaller, by the same factor.

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
        norms: Convolutions of a block, 1, 2 or 3, that a norm follows; None for the robust form, (1,).
        acts: Convolutions of a block that an activation follows; None for the robust form, the one that widens.
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
        patch_size, stem_stride = check_stem(stem, patch_size, stem_stride, output_stride)
        check_blocks(block, kernel_size, small_kernel_size, norms, acts, depths, dims)
        # Stem, stages, head: a seed gives the weights that it gave before only if they are made in this order.
        stem_layers = create_stem(stem, in_chans, dims[0], patch_size, stem_stride, norm_layer, act_layer)
        layouts = lay_out(depths, patch_size, stem_stride, output_stride, block.stride_last)
        drop_path_rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        chs = dims[0]
        stages, feature_info = [], []
        for i, (dim, layout) in enumerate(zip(dims, layouts, strict=True)):
            stage = RobustStage(
                block,
                chs,
                dim,
                layout,
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
            feature_info.append(dict(num_chs=chs, reduction=layout.reduction, module=f'stages.{i}'))
        super().__init__(stem_layers, stages, feature_info, None, num_classes, global_pool, drop_rate)
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
    def fit_weights(
        self, weights: Mapping[str, torch.Tensor], source: str, resample_stem: bool = False
    ) -> Mapping[str, torch.Tensor]:
        """See `backbones.checkpoint.fit_weights`."""
        if isinstance(self.stem, nn.Conv2d):
            return fit_stem(weights, self.stem.kernel_size[-1], source, resample_stem)
        if resample_stem:
            raise ValueError("resample_stem=True is not available with this stem; leave it out, or set stem='patch'")
        return weights


def _cfg(first_conv: str = 'stem') -> dict:
    return imagenet_cfg(
        first_conv=first_conv, paper_ids='arXiv:2206.03452', origin_url='https://github.com/UCSC-VLAA/RobustCNN'
    )


BLOCK_NAMES = ('dw', 'inverted_dw', 'up_inverted_dw', 'down_inverted_dw')
default_cfgs = generate_default_cfgs(
    {f'robust_resnet_{block}_{size}': _cfg() for size in ('small', 'base', 'small_rep') for block in BLOCK_NAMES}
    | {f'resnet_{block}_small': _cfg('stem.0') for block in BLOCK_NAMES}
)

# Small models are those of the public code, which has no others. In baselines and base models the third stage has the
# number of blocks that comes nearest to the paper's goal: 4.60 GMACs (DeiT-S) and 17.56 GMACs (DeiT-B).
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
    return build_staged(RobustResNet, variant, pretrained, num_stages=4, **args)


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
