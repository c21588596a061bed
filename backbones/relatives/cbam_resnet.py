"""CBAM-ResNet: ResNet with channel and then spatial attention at the end of each block.

Source: Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018 (https://arxiv.org/abs/1807.06521) and its
public code (https://github.com/Jongchan/attention-module). The attention is timm's ``cbam`` layer, the network timm's
ResNet.

Differs from the public code: bottlenecks stride in their first convolution, as the publication's GFLOPs say.
"""

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet

from backbones.staged import imagenet_cfg

__all__ = ['StrideFirstBottleneck']


class StrideFirstBottleneck(Bottleneck):
    """timm's bottleneck with the stride in its first 1×1 instead of its 3×3 convolution, as in the first ResNet."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


def _cfg() -> dict:
    return imagenet_cfg(
        interpolation='bilinear',
        first_conv='conv1',
        classifier='fc',
        paper_ids='arXiv:1807.06521',
        origin_url='https://github.com/Jongchan/attention-module',
    )


default_cfgs = generate_default_cfgs({f'cbam_resnet{depth}': _cfg() for depth in (18, 34, 50, 101)})


def _create_cbam_resnet(variant: str, pretrained: bool, **kwargs) -> ResNet:
    return build_model_with_cfg(ResNet, variant, pretrained, block_args=dict(attn_layer='cbam'), **kwargs)


@register_model
def cbam_resnet18(pretrained: bool = False, **kwargs) -> ResNet:
    """CBAM-ResNet-18: 11.78 M parameters, 1.815 GMACs at 224×224, 70.73 % on ImageNet."""
    args = dict(block=BasicBlock, layers=(2, 2, 2, 2))
    return _create_cbam_resnet('cbam_resnet18', pretrained, **dict(args, **kwargs))


@register_model
def cbam_resnet34(pretrained: bool = False, **kwargs) -> ResNet:
    """CBAM-ResNet-34: 21.96 M parameters, 3.665 GMACs at 224×224, 74.01 % on ImageNet."""
    args = dict(block=BasicBlock, layers=(3, 4, 6, 3))
    return _create_cbam_resnet('cbam_resnet34', pretrained, **dict(args, **kwargs))


@register_model
def cbam_resnet50(pretrained: bool = False, **kwargs) -> ResNet:
    """CBAM-ResNet-50: 28.09 M parameters, 3.864 GMACs at 224×224, 77.34 % on ImageNet."""
    args = dict(block=StrideFirstBottleneck, layers=(3, 4, 6, 3))
    return _create_cbam_resnet('cbam_resnet50', pretrained, **dict(args, **kwargs))


@register_model
def cbam_resnet101(pretrained: bool = False, **kwargs) -> ResNet:
    """CBAM-ResNet-101: 49.33 M parameters, 7.581 GMACs at 224×224, 78.49 % on ImageNet."""
    args = dict(block=StrideFirstBottleneck, layers=(3, 4, 23, 3))
    return _create_cbam_resnet('cbam_resnet101', pretrained, **dict(args, **kwargs))
