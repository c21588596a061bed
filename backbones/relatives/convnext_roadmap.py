"""From ResNet-50 to ConvNeXt-T, one entrypoint for each published step.

Source: Liu et al., "A ConvNet for the 2020s", CVPR 2022 (https://arxiv.org/abs/2201.03545), section 2, figures 3 and
4, and table 10, which gives top-1 accuracy (ImageNet-1k, mean of three seeds) and FLOPs at 224×224. The last step is
timm's `convnext_tiny`, key for key.

The authors published no code of the steps between. The FLOPs settle most questions that the text leaves open: a
depthwise convolution that has moved up keeps the input width of its block. Three answers are readings of the text:

- the patchify stem is the bare convolution until the last step puts a norm after it;
- the shortcut of a block that changes shape keeps its norm;
- layer scale belongs to the final model; `ls_init_value` gives it to any other.

Differs from table 10: the table gives 4.46 GFLOPs for "BN → LN", 0.31 more than for the step before. Exchanging one
norm for another adds no such amount, and table 11 shows none where ResNet-200 takes the same step; 4.46 is the sum over
the convolutions of the *last* step. Here the step costs nothing.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from operator import or_

import torch
from timm.layers import (
    LayerNorm2d,
    NormMlpClassifierHead,
    calculate_drop_path_rates,
    create_conv2d,
    get_act_layer,
    get_norm_layer,
    trunc_normal_,
)
from timm.models import checkpoint_seq, generate_default_cfgs, register_model
from timm.models.convnext import ConvNeXt
from torch import nn

from backbones.messages import choices
from backbones.relatives.roadmap_blocks import (
    BlockLayers,
    ConvNeXtBlock,
    InvertedBlock,
    ResNetBlock,
    ResNeXtBlock,
    RoadmapBlock,
)
from backbones.staged import build_staged, imagenet_cfg

__all__ = ['RoadmapNet', 'convert_pointwise']

OUTPUT_STRIDES = (8, 16, 32)
STEM_TYPES = ('resnet', 'patch')


class RoadmapStage(nn.Module):
    """A run of equal blocks; the first strides, or a convolution before it does.

    Args:
        block: Block class.
        layers: Norms and activations of the blocks.
        in_chs: Input channels.
        dim: Base width.
        stride: Stride of the stage.
        dilations: Dilation of the layer that strides, or would stride without dilation, and of the layers after it.
        separate_downsample: A norm and a 2×2 convolution stride, not the first block.
        drop_path_rates: Drop path rate of each block.
        block_args: Further arguments of every block.
    """

    def __init__(
        self,
        block: type[RoadmapBlock],
        layers: BlockLayers,
        in_chs: int,
        dim: int,
        stride: int,
        dilations: tuple[int, int],
        separate_downsample: bool,
        drop_path_rates: Sequence[float],
        **block_args,
    ):
        super().__init__()
        self.grad_checkpointing = False
        self.num_chs = block.out_ratio * dim
        first_dilation, dilation = dilations
        self.downsample: nn.Module = nn.Identity()
        changes_shape = stride > 1 or in_chs != self.num_chs or first_dilation != dilation
        if separate_downsample and changes_shape:
            padding = 'same' if dilation > 1 else 0
            conv = create_conv2d(in_chs, dim, 2, stride=stride, dilation=first_dilation, padding=padding, bias=True)
            self.downsample = nn.Sequential(layers.norm_layer(in_chs), conv)
            in_chs, stride, first_dilation, changes_shape = dim, 1, dilation, False
        blocks = []
        for i, drop_path in enumerate(drop_path_rates):
            first = dict(stride=stride, dilation=first_dilation, project=changes_shape) if i == 0 else {}
            args = {'dilation': dilation, 'drop_path': drop_path, **first, **block_args}
            blocks.append(block(layers, in_chs, dim, **args))
            in_chs = self.num_chs
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to the next stage's."""
        x = self.downsample(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.blocks, x)
        return self.blocks(x)


class RoadmapNet(ConvNeXt):
    """A stem of stride 4, four stages of one kind of block, average pooling and a linear classifier.

    Methods are those of timm's ConvNeXt, layers are not.

    Args:
        block: One of the four block classes.
        in_chans: Input channels.
        num_classes: Classes; 0 leaves the classifier out.
        global_pool: timm's name of the pooling.
        output_stride: Stride of the last map, 8, 16 or 32; strides beyond it become dilation.
        stem_type: ``resnet`` (7×7 stride 2, norm, activation, max pool) or ``patch`` (4×4 stride 4).
        depths: Blocks of each stage.
        dims: Base width of each stage.
        kernel_size: Side of the spatial convolutions, odd.
        norms: After which of a block's three convolutions a norm stays.
        acts: After which of them an activation stays; the third follows the sum with the shortcut.
        norm_layer: ``nn.BatchNorm2d`` or timm's ``LayerNorm2d``, or timm's name of it.
        act_layer: Activation layer, or timm's name of it.
        separate_downsample: 2×2 convolutions between the stages stride, not the blocks; a norm stands before each,
            after the stem and after the pooling.
        conv_mlp: Pointwise layers as 1×1 convolutions; False makes them linear, which needs `ConvNeXtBlock` and
            `LayerNorm2d`. `convert_pointwise` turns the weights of one form into the other's.
        ls_init_value: Initial layer scale; None leaves it out.
        drop_rate: Dropout before the classifier.
        drop_path_rate: Drop path of the last block; earlier ones rise to it linearly from 0.

    Raises:
        ValueError: An argument has a value that the network cannot be built with.
    """

    def __init__(
        self,
        block: type[RoadmapBlock],
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = 'avg',
        output_stride: int = 32,
        stem_type: str = 'patch',
        depths: Sequence[int] = (3, 3, 9, 3),
        dims: Sequence[int] = (96, 192, 384, 768),
        kernel_size: int = 7,
        norms: Sequence[int] = (1, 2, 3),
        acts: Sequence[int] = (1, 2, 3),
        norm_layer: type[nn.Module] | str = nn.BatchNorm2d,
        act_layer: type[nn.Module] | str = nn.ReLU,
        separate_downsample: bool = False,
        conv_mlp: bool = True,
        ls_init_value: float | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        nn.Module.__init__(self)
        layers = BlockLayers(norms, acts, get_norm_layer(norm_layer), get_act_layer(act_layer), conv_mlp)
        _check_arguments(block, layers, output_stride, stem_type, depths, dims, kernel_size)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.feature_info = []
        self.stem = _create_stem(stem_type, in_chans, dims[0], layers, separate_downsample)

        drop_path_rates = calculate_drop_path_rates(drop_path_rate, list(depths), stagewise=True)
        chs, reduction, dilation = dims[0], 4, 1
        stages = []
        for i, dim in enumerate(dims):
            stride, before = (2 if i else 1), dilation
            if reduction * stride > output_stride:
                stride, dilation = 1, dilation * stride
            reduction *= stride
            stage = RoadmapStage(
                block,
                layers,
                chs,
                dim,
                stride,
                (before, dilation),
                separate_downsample,
                drop_path_rates[i],
                kernel_size=kernel_size,
                ls_init_value=ls_init_value,
            )
            chs = stage.num_chs
            stages.append(stage)
            self.feature_info.append(dict(num_chs=chs, reduction=reduction, module=f'stages.{i}'))
        self.stages = nn.Sequential(*stages)

        self.norm_pre = nn.Identity()
        self.num_features = self.head_hidden_size = chs
        head_norm = layers.norm_layer if separate_downsample else nn.Identity
        self.head = NormMlpClassifierHead(chs, num_classes, None, global_pool, drop_rate, head_norm)
        self.apply(_init_weights)


def _create_stem(stem_type: str, in_chs: int, out_chs: int, layers: BlockLayers, patch_norm: bool) -> nn.Sequential:
    """Make the stem of a name; a norm follows patches if asked for."""
    if stem_type == 'resnet':
        conv = nn.Conv2d(in_chs, out_chs, 7, 2, 3, bias=layers.norm_layer is not nn.BatchNorm2d)
        return nn.Sequential(conv, layers.norm_layer(out_chs), layers.act_layer(), nn.MaxPool2d(3, 2, 1))
    norm = [layers.norm_layer(out_chs)] if patch_norm else []
    return nn.Sequential(nn.Conv2d(in_chs, out_chs, 4, 4), *norm)


def _init_weights(module: nn.Module) -> None:
    """Initialise as ConvNeXt does: normal of deviation 0.02, zero biases."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def convert_pointwise(state_dict: Mapping[str, torch.Tensor], conv_mlp: bool) -> dict[str, torch.Tensor]:
    """Turn the weights of linear pointwise layers into those of 1×1 convolutions, or back; the output stays.

    timm's own ConvNeXt models have such weights too. Weights of the wanted form are left as they are.

    Args:
        state_dict: Weights of a ConvNeXt.
        conv_mlp: The wanted form, as in the model's argument of that name.

    Returns:
        Weights under the same names; those of pointwise layers are [C', C, 1, 1] or [C', C].
    """
    extra = (1, 1) if conv_mlp else ()
    return {
        k: v.reshape(*v.shape[:2], *extra) if k.endswith(('.mlp.fc1.weight', '.mlp.fc2.weight')) else v
        for k, v in state_dict.items()
    }


def _check_arguments(block, layers, output_stride, stem_type, depths, dims, kernel_size) -> None:
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f'output_stride {output_stride} is not available; choose from {choices(OUTPUT_STRIDES)}')
    if stem_type not in STEM_TYPES:
        raise ValueError(f"stem_type '{stem_type}' is unknown; choose from {choices(STEM_TYPES)}")
    if kernel_size % 2 == 0 or kernel_size < 1:
        raise ValueError(f'kernel_size {kernel_size} is not odd; choose from 3, 5, 7, 9, 11')
    if len(depths) != 4 or len(dims) != 4 or min(*depths, *dims) < 1:
        raise ValueError(f'depths {tuple(depths)} and dims {tuple(dims)} must be four positive numbers each')
    for name, positions in (('norms', layers.norms), ('acts', layers.acts)):
        if not set(positions) <= {1, 2, 3}:
            raise ValueError(f'{name} {tuple(positions)} are positions after convolutions; choose from 1, 2, 3')
    if not layers.conv_mlp and not (block is ConvNeXtBlock and layers.norm_layer is LayerNorm2d):
        raise ValueError(
            f'conv_mlp False is not available with {block.__name__} and {layers.norm_layer.__name__}; '
            'choose ConvNeXtBlock and LayerNorm2d, or conv_mlp True'
        )


def _cfg() -> dict:
    return imagenet_cfg(paper_ids='arXiv:2201.03545', origin_url='https://github.com/facebookresearch/ConvNeXt')


# The change of each step, in the paper's order but for the kernel sizes: 7 comes after the sizes that were not kept.
CHANGES = dict(
    resnet50=dict(block=ResNetBlock, stem_type='resnet', depths=(3, 4, 6, 3), dims=(64, 128, 256, 512), kernel_size=3),
    stage_ratio=dict(depths=(3, 3, 9, 3)),
    patchify=dict(stem_type='patch'),
    depthwise=dict(block=ResNeXtBlock),
    width=dict(dims=(96, 192, 384, 768)),
    inverted=dict(block=InvertedBlock),
    moved_up=dict(block=ConvNeXtBlock),
    kernel5=dict(kernel_size=5),
    kernel9=dict(kernel_size=9),
    kernel11=dict(kernel_size=11),
    kernel7=dict(kernel_size=7),
    gelu=dict(act_layer=nn.GELU),
    fewer_acts=dict(acts=(2,)),
    fewer_norms=dict(norms=(1,)),
    layernorm=dict(norm_layer=LayerNorm2d, conv_mlp=False),
    separate_downsample=dict(separate_downsample=True, ls_init_value=1e-6),
)
CHOICES = dict(zip(CHANGES, accumulate(CHANGES.values(), or_), strict=True))

default_cfgs = generate_default_cfgs({f'convnext_roadmap_{step}': _cfg() for step in CHOICES})


def _create(step: str, pretrained: bool = False, **kwargs) -> RoadmapNet:
    args = {**CHOICES[step], **kwargs}
    return build_staged(RoadmapNet, f'convnext_roadmap_{step}', pretrained, num_stages=4, **args)


@register_model
def convnext_roadmap_resnet50(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """ResNet-50, trained the modern way: 78.82 % at 4.09 GFLOPs published; here 4.09 GMACs, 25.56 M parameters."""
    return _create('resnet50', pretrained, **kwargs)


@register_model
def convnext_roadmap_stage_ratio(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Stage ratio 1:1:3:1: 79.36 % at 4.53 GFLOPs published; here 4.53 GMACs, 28.63 M parameters."""
    return _create('stage_ratio', pretrained, **kwargs)


@register_model
def convnext_roadmap_patchify(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Patchify stem: 79.51 % at 4.42 GFLOPs published; here 4.42 GMACs, 28.62 M parameters."""
    return _create('patchify', pretrained, **kwargs)


@register_model
def convnext_roadmap_depthwise(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Depthwise convolutions: 78.28 % at 2.35 GFLOPs published; here 2.35 GMACs, 15.72 M parameters."""
    return _create('depthwise', pretrained, **kwargs)


@register_model
def convnext_roadmap_width(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Width 96: 80.50 % at 5.27 GFLOPs published; here 5.27 GMACs, 33.76 M parameters."""
    return _create('width', pretrained, **kwargs)


@register_model
def convnext_roadmap_inverted(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Inverted bottlenecks: 80.64 % at 4.64 GFLOPs published; here 4.64 GMACs, 25.85 M parameters."""
    return _create('inverted', pretrained, **kwargs)


@register_model
def convnext_roadmap_moved_up(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Depthwise convolution moved up: 79.92 % at 4.07 GFLOPs published; here 4.07 GMACs, 25.63 M parameters."""
    return _create('moved_up', pretrained, **kwargs)


@register_model
def convnext_roadmap_kernel5(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Kernel size 5: 80.35 % at 4.10 GFLOPs published; here 4.10 GMACs, 25.72 M parameters."""
    return _create('kernel5', pretrained, **kwargs)


@register_model
def convnext_roadmap_kernel7(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Kernel size 7: 80.57 % at 4.15 GFLOPs published; here 4.15 GMACs, 25.86 M parameters."""
    return _create('kernel7', pretrained, **kwargs)


@register_model
def convnext_roadmap_kernel9(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Kernel size 9, not kept: 80.57 % at 4.21 GFLOPs published; here 4.21 GMACs, 26.05 M parameters."""
    return _create('kernel9', pretrained, **kwargs)


@register_model
def convnext_roadmap_kernel11(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Kernel size 11, not kept: 80.47 % at 4.29 GFLOPs published; here 4.29 GMACs, 26.29 M parameters."""
    return _create('kernel11', pretrained, **kwargs)


@register_model
def convnext_roadmap_gelu(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """GELU for ReLU: 80.62 % at 4.15 GFLOPs published; here 4.15 GMACs, 25.86 M parameters."""
    return _create('gelu', pretrained, **kwargs)


@register_model
def convnext_roadmap_fewer_acts(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """One activation a block: 81.27 % at 4.15 GFLOPs published; here 4.15 GMACs, 25.86 M parameters."""
    return _create('fewer_acts', pretrained, **kwargs)


@register_model
def convnext_roadmap_fewer_norms(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """One norm a block: 81.41 % at 4.15 GFLOPs published; here 4.15 GMACs, 25.83 M parameters."""
    return _create('fewer_norms', pretrained, **kwargs)


@register_model
def convnext_roadmap_layernorm(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Layer norm for batch norm: 81.47 % at 4.46 GFLOPs published; here 4.15 GMACs, 25.84 M parameters."""
    return _create('layernorm', pretrained, **kwargs)


@register_model
def convnext_roadmap_separate_downsample(pretrained: bool = False, **kwargs) -> RoadmapNet:
    """Separate downsampling, ConvNeXt-T: 81.97 % at 4.49 GFLOPs published; here 4.46 GMACs, 28.59 M parameters."""
    return _create('separate_downsample', pretrained, **kwargs)
