"""DeiT-S with a convolutional stem: four 3×3 convolutions of stride 2 in place of 16×16 patches.

Source: the stem is that of Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021
(https://arxiv.org/abs/2106.14881), which Wang et al., "Can CNNs Be More Robust Than Transformers?", ICLR 2023
(https://arxiv.org/abs/2206.03452) compare with patches. The network is timm's ``VisionTransformer``.

The stem costs about as much as one block. Like Xiao et al., the model therefore has 11 blocks instead of 12, and the
4.6 GMACs of DeiT-S; ``depth=12`` gives all blocks.
"""

from timm.layers import PatchEmbed, to_2tuple
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from backbones.staged import imagenet_cfg

__all__ = ['ConvStemEmbed']

STEM_STRIDE = 16


class ConvStemEmbed(PatchEmbed):
    """Tokens of 16×16 pixels from four 3×3 convolutions of stride 2 and a 1×1 convolution.

    Args:
        img_size: Height and width of images, or one number for both.
        patch_size: 16, the stem's stride.
        in_chans: Input channels.
        embed_dim: Width of tokens, a multiple of 8: the convolutions have 1/8, 1/4, 1/2 and all of it.
        bias: Bias of the 1×1 convolution.
        device: Device of the parameters.
        dtype: Type of the parameters.
        kwargs: Further arguments of timm's ``PatchEmbed``.

    Raises:
        ValueError: ``patch_size`` is not 16, or ``embed_dim`` does not divide by 8.
    """

    def __init__(
        self, img_size=224, patch_size=16, in_chans=3, embed_dim=384, bias=True, device=None, dtype=None, **kwargs
    ):
        _check_patch_size(patch_size)
        if embed_dim % 8:
            raise ValueError(f'embed_dim {embed_dim} is not a multiple of 8, as the stem needs; choose 384, 768, …')
        factory = dict(device=device, dtype=dtype)
        super().__init__(img_size, patch_size, in_chans, embed_dim, bias=bias, **factory, **kwargs)
        layers, chs = [], in_chans
        for out_chs in (embed_dim // 8, embed_dim // 4, embed_dim // 2, embed_dim):
            layers.append(nn.Conv2d(chs, out_chs, 3, 2, 1, bias=False, **factory))
            layers.append(nn.BatchNorm2d(out_chs, **factory))
            layers.append(nn.ReLU(inplace=True))
            chs = out_chs
        self.proj = nn.Sequential(*layers, nn.Conv2d(chs, embed_dim, 1, bias=bias, **factory))

    def set_input_size(self, img_size=None, patch_size=None) -> None:
        """Change the size of images; the patch size stays."""
        _check_patch_size(patch_size or STEM_STRIDE)
        super().set_input_size(img_size)


def _check_patch_size(patch_size) -> None:
    if to_2tuple(patch_size) != (STEM_STRIDE, STEM_STRIDE):
        raise ValueError(f'patch_size {patch_size} is not available with a convolutional stem; choose {STEM_STRIDE}')


default_cfgs = generate_default_cfgs(
    {
        'deit_small_conv_stem_224': imagenet_cfg(
            fixed_input_size=True,
            pool_size=None,
            crop_pct=0.9,
            first_conv='patch_embed.proj.0',
            classifier='head',
            paper_ids='arXiv:2206.03452',
        ),
    }
)


@register_model
def deit_small_conv_stem_224(pretrained: bool = False, **kwargs) -> VisionTransformer:
    """DeiT-S with a convolutional stem and 11 blocks: 21.0 M parameters, 4.6 GMACs at 224×224."""
    args = dict(patch_size=16, embed_dim=384, depth=11, num_heads=6, embed_layer=ConvStemEmbed)
    return build_model_with_cfg(
        VisionTransformer,
        'deit_small_conv_stem_224',
        pretrained,
        feature_cfg=dict(out_indices=3, feature_cls='getter'),
        **dict(args, **kwargs),
    )
