"""ResNeSt as published: the four models of the paper and the seven "fast" models of its ablation study.

Source: Zhang et al., "ResNeSt: Split-Attention Networks" (https://arxiv.org/abs/2004.08955) and its public code
(https://github.com/zhanghang1989/ResNeSt), whose checkpoints load as they are. The network and its split attention are
timm's; the names say radix s, cardinality x, bottleneck width d.

The "fast" models pool before the 3×3 convolution (`avd_first`), the others behind it. timm has `resnest50` as
`resnest50d`, `resnest101/200/269` with an `e`, and two of the fast ones, `resnest50d_1s4x24d` and `resnest50d_4s2x40d`.

Differs from the original: drop block, which its PyTorch code lacks, stands inside the split attention only, as in timm;
`zero_init_last` has an effect (the original overwrites it); with `output_stride`, a pooling that comes first makes
the convolution behind it dilated.
Differs from timm: drop path drops the block's path, not the input of its shortcut; a stage whose stride became dilation
keeps its average pooling, as in the original.
"""

from collections.abc import Sequence

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnest import ResNestBottleneck
from timm.models.resnet import ResNet

from backbones.layers.average_pool import mend_average_pools
from backbones.messages import choices
from backbones.staged import imagenet_cfg

__all__ = ['ResNeSt']

OUTPUT_STRIDES = (8, 16, 32)
RELEASE = 'https://github.com/zhanghang1989/ResNeSt/releases/download/weights_step1'


class ResNeStBlock(ResNestBottleneck):
    """timm's block with drop path on its path, and the pooling of `avd` where a stride became dilation.

    Args:
        avd: Pool where the path strides.
        avd_first: Pool before the 3×3 convolution, not behind it.
        dilation: Dilation of the stage's later blocks.
        first_dilation: Dilation of the map that this block reads.
        block_args: Further arguments of timm's block.
    """

    def __init__(
        self,
        *args,
        avd: bool = False,
        avd_first: bool = False,
        dilation: int = 1,
        first_dilation: int | None = None,
        **block_args,
    ):
        is_first = first_dilation not in (None, dilation)
        if avd and avd_first:
            # The pooling that would have strided stands before the 3×3 convolution, which is then dilated already.
            first_dilation = dilation
        dilations = dict(dilation=dilation, first_dilation=first_dilation)
        super().__init__(*args, avd=avd, avd_first=avd_first, is_first=is_first, **dilations, **block_args)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.act1(self.bn1(self.conv1(x)))
        if self.avd_first is not None:
            y = self.avd_first(y)
        y = self.act2(self.drop_block(self.bn2(self.conv2(y))))
        if self.avd_last is not None:
            y = self.avd_last(y)
        y = self.bn3(self.conv3(y))
        if self.drop_path is not None:
            y = self.drop_path(y)
        if self.downsample is not None:
            x = self.downsample(x)
        return self.act3(y + x)


class ResNeSt(ResNet):
    """timm's ResNet with split-attention blocks and the original's options as plain arguments.

    Args:
        layers: Blocks of each stage.
        radix: Splits of a group; 0 puts a plain 3×3 convolution in place of the split attention.
        cardinality: Groups.
        base_width: Width of a group in the first stage.
        deep_stem: Three 3×3 convolutions in place of one 7×7.
        stem_width: Channels of the first two of them; the third has twice as many.
        avg_down: The shortcut strides by average pooling, not by its convolution.
        avd: The path strides by average pooling, not by its 3×3 convolution.
        avd_first: That pooling stands before the 3×3 convolution, not behind it.
        output_stride: Stride of the last map, 8, 16 or 32; strides beyond it become dilation.
        drop_block_rate: Drop block in the last two stages.
        zero_init_last: Start the last norm of each block from zero.
        resnet_args: Further arguments of timm's ``ResNet``.

    Raises:
        ValueError: The radix does not divide a group, or the stride cannot be had.
    """

    def __init__(
        self,
        layers: Sequence[int],
        radix: int = 2,
        cardinality: int = 1,
        base_width: int = 64,
        deep_stem: bool = True,
        stem_width: int = 32,
        avg_down: bool = True,
        avd: bool = True,
        avd_first: bool = False,
        output_stride: int = 32,
        drop_block_rate: float = 0.0,
        zero_init_last: bool = False,
        **resnet_args,
    ):
        if radix < 0 or (radix and base_width % radix):
            divisors = [r for r in range(1, 9) if base_width % r == 0]
            raise ValueError(
                f'radix {radix} does not divide base_width {base_width}; choose from {choices([0, *divisors])}'
            )
        if output_stride not in OUTPUT_STRIDES:
            raise ValueError(f'output_stride {output_stride} is not available; choose from {choices(OUTPUT_STRIDES)}')
        super().__init__(
            ResNeStBlock,
            layers,
            cardinality=cardinality,
            base_width=base_width,
            stem_type='deep' if deep_stem else '',
            stem_width=stem_width,
            avg_down=avg_down,
            output_stride=output_stride,
            drop_block_rate=drop_block_rate,
            zero_init_last=zero_init_last,
            block_args=dict(radix=radix, avd=avd, avd_first=avd_first),
            **resnet_args,
        )
        mend_average_pools(self)


def _cfg(weights: str, size_px: int = 224) -> dict:
    return imagenet_cfg(
        url=f'{RELEASE}/{weights}.pth',
        input_size=(3, size_px, size_px),
        pool_size=(size_px // 32, size_px // 32),
        crop_pct=size_px / (size_px + 32),
        first_conv='conv1.0',
        classifier='fc',
        license='apache-2.0',
        paper_ids='arXiv:2004.08955',
        origin_url='https://github.com/zhanghang1989/ResNeSt',
    )


default_cfgs = generate_default_cfgs(
    {
        'resnest50': _cfg('resnest50-528c19ca'),
        'resnest101': _cfg('resnest101-22405ba7', 256),
        'resnest200': _cfg('resnest200-75117900', 320),
        'resnest269': _cfg('resnest269-0cc87c48', 416),
        'resnest50_fast_1s1x64d': _cfg('resnest50_fast_1s1x64d-d8fbf808'),
        'resnest50_fast_2s1x64d': _cfg('resnest50_fast_2s1x64d-44938639'),
        'resnest50_fast_4s1x64d': _cfg('resnest50_fast_4s1x64d-f74f3fc3'),
        'resnest50_fast_1s2x40d': _cfg('resnest50_fast_1s2x40d-32830b84'),
        'resnest50_fast_2s2x40d': _cfg('resnest50_fast_2s2x40d-9d126481'),
        'resnest50_fast_4s2x40d': _cfg('resnest50_fast_4s2x40d-41d14ed0'),
        'resnest50_fast_1s4x24d': _cfg('resnest50_fast_1s4x24d-d4a4f76f'),
    }
)


FAST = dict(layers=(3, 4, 6, 3), avd_first=True)


def _create(variant: str, pretrained: bool, args: dict, kwargs: dict) -> ResNeSt:
    return build_model_with_cfg(ResNeSt, variant, pretrained, **{**args, **kwargs})


@register_model
def resnest50(pretrained: bool = False, **kwargs) -> ResNeSt:
    """ResNeSt-50: 27.48 M parameters, 5.37 GMACs at 224×224, 81.03 % on ImageNet at 224×224."""
    return _create('resnest50', pretrained, dict(layers=(3, 4, 6, 3), stem_width=32), kwargs)


@register_model
def resnest101(pretrained: bool = False, **kwargs) -> ResNeSt:
    """ResNeSt-101: 48.28 M parameters, 10.20 GMACs at 224×224, 82.83 % on ImageNet at 256×256."""
    return _create('resnest101', pretrained, dict(layers=(3, 4, 23, 3), stem_width=64), kwargs)


@register_model
def resnest200(pretrained: bool = False, **kwargs) -> ResNeSt:
    """ResNeSt-200: 70.20 M parameters, 17.41 GMACs at 224×224, 83.84 % on ImageNet at 320×320."""
    return _create('resnest200', pretrained, dict(layers=(3, 24, 36, 3), stem_width=64), kwargs)


@register_model
def resnest269(pretrained: bool = False, **kwargs) -> ResNeSt:
    """ResNeSt-269: 110.93 M parameters, 22.43 GMACs at 224×224, 84.54 % on ImageNet at 416×416."""
    return _create('resnest269', pretrained, dict(layers=(3, 30, 48, 8), stem_width=64), kwargs)


@register_model
def resnest50_fast_1s1x64d(pretrained: bool = False, **kwargs) -> ResNeSt:
    """ResNeSt-50-fast 1s1x64d: 26.22 M parameters, 4.33 GMACs at 224×224, 80.33 % on ImageNet at 224×224."""
    args = dict(FAST, radix=1, cardinality=1, base_width=64)
    return _create('resnest50_fast_1s1x64d', pretrained, args, kwargs)


@register_model
def resnest50_fast_2s1x64d(pretrained: bool = False, **kwargs) -> ResNeSt:
    """ResNeSt-50-fast 2s1x64d: 27.48 M parameters, 4.33 GMACs at 224×224, 80.53 % on ImageNet at 224×224."""
    args = dict(FAST, radix=2, cardinality=1, base_width=64)
    return _create('resnest50_fast_2s1x64d', pretrained, args, kwargs)


@register_model
def resnest50_fast_4s1x64d(pretrained: bool = False, **kwargs) -> ResNeSt:
    """ResNeSt-50-fast 4s1x64d: 31.91 M parameters, 4.34 GMACs at 224×224, 80.76 % on ImageNet at 224×224."""
    args = dict(FAST, radix=4, cardinality=1, base_width=64)
    return _create('resnest50_fast_4s1x64d', pretrained, args, kwargs)


@register_model
def resnest50_fast_1s2x40d(pretrained: bool = False, **kwargs) -> ResNeSt:
    """ResNeSt-50-fast 1s2x40d: 25.95 M parameters, 4.36 GMACs at 224×224, 80.59 % on ImageNet at 224×224."""
    args = dict(FAST, radix=1, cardinality=2, base_width=40)
    return _create('resnest50_fast_1s2x40d', pretrained, args, kwargs)


@register_model
def resnest50_fast_2s2x40d(pretrained: bool = False, **kwargs) -> ResNeSt:
    """ResNeSt-50-fast 2s2x40d: 26.94 M parameters, 4.37 GMACs at 224×224, 80.61 % on ImageNet at 224×224."""
    args = dict(FAST, radix=2, cardinality=2, base_width=40)
    return _create('resnest50_fast_2s2x40d', pretrained, args, kwargs)


@register_model
def resnest50_fast_4s2x40d(pretrained: bool = False, **kwargs) -> ResNeSt:
    """ResNeSt-50-fast 4s2x40d: 30.42 M parameters, 4.37 GMACs at 224×224, 81.14 % on ImageNet at 224×224."""
    args = dict(FAST, radix=4, cardinality=2, base_width=40)
    return _create('resnest50_fast_4s2x40d', pretrained, args, kwargs)


@register_model
def resnest50_fast_1s4x24d(pretrained: bool = False, **kwargs) -> ResNeSt:
    """ResNeSt-50-fast 1s4x24d: 25.68 M parameters, 4.40 GMACs at 224×224, 80.99 % on ImageNet at 224×224."""
    args = dict(FAST, radix=1, cardinality=4, base_width=24)
    return _create('resnest50_fast_1s4x24d', pretrained, args, kwargs)
