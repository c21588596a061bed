"""CoAtNet-0 to 4 as published: two stages of inverted bottlenecks, then two of attention with relative positions.

Source: Dai et al., "CoAtNet: Marrying Convolution and Attention for All Data Sizes", NeurIPS 2021
(https://arxiv.org/abs/2106.04803), table 3. The network is timm's ``MaxxVit``.

Differs from timm's ``coatnet_0_224`` … ``coatnet_4_224``: a bottleneck strides in its first 1×1 convolution, as the
paper writes it, instead of in the depthwise one. With timm's the GMACs come out 3 to 8 % above the published ones.
"""

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitConvCfg, MaxxVitTransformerCfg

from backbones.staged import imagenet_cfg


def _cfg() -> dict:
    return imagenet_cfg(
        fixed_input_size=True,
        first_conv='stem.conv1',
        classifier='head.fc',
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        paper_ids='arXiv:2106.04803',
    )


default_cfgs = generate_default_cfgs({f'coatnet_{i}': _cfg() for i in range(5)})


def _create_coatnet(variant: str, pretrained: bool, stem_width: int, dims: tuple, depths: tuple, **kwargs) -> MaxxVit:
    """Build a CoAtNet from its row in table 3.

    Args:
        variant: timm name.
        pretrained: Load weights.
        stem_width: Channels D of stage S0.
        dims: Channels of stages S1 to S4.
        depths: Blocks L of stages S1 to S4.
        kwargs: Further arguments of ``MaxxVit``, such as ``img_size``.
    """
    cfg = MaxxVitCfg(
        embed_dim=dims,
        depths=depths,
        block_type=('C', 'C', 'T', 'T'),
        stem_width=stem_width,
        head_hidden_size=dims[-1],
        conv_cfg=MaxxVitConvCfg(stride_mode='1x1'),
        transformer_cfg=MaxxVitTransformerCfg(rel_pos_type='bias'),
    )
    feature_cfg = dict(flatten_sequential=True)
    return build_model_with_cfg(MaxxVit, variant, pretrained, model_cfg=cfg, feature_cfg=feature_cfg, **kwargs)


@register_model
def coatnet_0(pretrained: bool = False, **kwargs) -> MaxxVit:
    """CoAtNet-0: 25 M parameters, 4.2 GMACs at 224×224, 81.6 % on ImageNet."""
    args = dict(stem_width=64, dims=(96, 192, 384, 768), depths=(2, 3, 5, 2))
    return _create_coatnet('coatnet_0', pretrained, **dict(args, **kwargs))


@register_model
def coatnet_1(pretrained: bool = False, **kwargs) -> MaxxVit:
    """CoAtNet-1: 42 M parameters, 8.4 GMACs at 224×224, 83.3 % on ImageNet."""
    args = dict(stem_width=64, dims=(96, 192, 384, 768), depths=(2, 6, 14, 2))
    return _create_coatnet('coatnet_1', pretrained, **dict(args, **kwargs))


@register_model
def coatnet_2(pretrained: bool = False, **kwargs) -> MaxxVit:
    """CoAtNet-2: 75 M parameters, 15.7 GMACs at 224×224, 84.1 % on ImageNet."""
    args = dict(stem_width=128, dims=(128, 256, 512, 1024), depths=(2, 6, 14, 2))
    return _create_coatnet('coatnet_2', pretrained, **dict(args, **kwargs))


@register_model
def coatnet_3(pretrained: bool = False, **kwargs) -> MaxxVit:
    """CoAtNet-3: 168 M parameters, 34.7 GMACs at 224×224, 84.5 % on ImageNet."""
    args = dict(stem_width=192, dims=(192, 384, 768, 1536), depths=(2, 6, 14, 2))
    return _create_coatnet('coatnet_3', pretrained, **dict(args, **kwargs))


@register_model
def coatnet_4(pretrained: bool = False, **kwargs) -> MaxxVit:
    """CoAtNet-4: 275 M parameters, 189.5 GMACs at 384×384, 87.9 % on ImageNet after ImageNet-21k."""
    args = dict(stem_width=192, dims=(192, 384, 768, 1536), depths=(2, 12, 28, 2))
    return _create_coatnet('coatnet_4', pretrained, **dict(args, **kwargs))
