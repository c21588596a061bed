"""Wide ResNet for small images: pre-activation blocks, shallow and wide.

Source: Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016 (https://arxiv.org/abs/1605.07146) and its
public code (https://github.com/szagoruyko/wide-residual-networks). The wide ResNets for ImageNet are timm's
``wide_resnet50_2`` and ``wide_resnet101_2``.
"""

import torch
from timm.models import generate_default_cfgs, register_model
from torch import nn

from backbones.staged import Stage, StagedNet, build_staged, cifar_cfg

__all__ = ['WideResNet']


class WideBlock(nn.Module):
    """Two pre-activated 3×3 convolutions beside a shortcut.

    Where the width changes, the shortcut is a 1×1 convolution of the pre-activated input.

    Args:
        in_chs: Input channels.
        out_chs: Output channels.
        stride: Stride of the first convolution and of the shortcut.
        proj_drop: Dropout between the convolutions.
    """

    def __init__(self, in_chs: int, out_chs: int, stride: int = 1, proj_drop: float = 0.0):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_chs)
        self.act1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_chs, out_chs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_chs)
        self.act2 = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(proj_drop)
        self.conv2 = nn.Conv2d(out_chs, out_chs, 3, 1, 1, bias=False)
        self.shortcut = None if in_chs == out_chs else nn.Conv2d(in_chs, out_chs, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.act1(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv1(y)
        y = self.conv2(self.drop(self.act2(self.norm2(y))))
        return shortcut + y


class WideResNet(StagedNet):
    """A 3×3 stem, three stages at strides 1, 2 and 4, a last norm, average pooling and a linear classifier.

    Args:
        depth: Layers, 6n + 4.
        widen_factor: Width over that of the plain network: 16, 32 and 64 channels.
        stem_stride: Stride of the stem; 2 doubles the strides of all stages, for a quarter of the cost.
        in_chans: Input channels.
        num_classes: Classes; 0 leaves the classifier out.
        global_pool: timm's name of the pooling.
        drop_rate: Dropout before the classifier.
        proj_drop_rate: Dropout inside blocks, 0.3 in the publication's variant with dropout.

    Raises:
        ValueError: ``depth`` is not 6n + 4.
    """

    def __init__(
        self,
        depth: int = 28,
        widen_factor: int = 10,
        stem_stride: int = 1,
        in_chans: int = 3,
        num_classes: int = 10,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
    ):
        if depth % 6 != 4:
            raise ValueError(f'depth {depth} is not 6n + 4; choose from 10, 16, 22, 28, …')
        chs = 16
        stem = nn.Sequential(nn.Conv2d(in_chans, chs, 3, stem_stride, 1, bias=False))
        stages, feature_info = [], []
        for i in range(3):
            blocks = []
            for j in range(depth // 6):
                out_chs = 16 * widen_factor * 2**i
                blocks.append(WideBlock(chs, out_chs, 2 if i > 0 and j == 0 else 1, proj_drop_rate))
                chs = out_chs
            stages.append(Stage(*blocks))
            feature_info.append(dict(num_chs=chs, reduction=stem_stride * 2**i, module=f'stages.{i}'))
        norm = nn.Sequential(nn.BatchNorm2d(chs), nn.ReLU(inplace=True))
        super().__init__(stem, stages, feature_info, norm, num_classes, global_pool, drop_rate)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_in', nonlinearity='relu')


default_cfgs = generate_default_cfgs(
    {
        'wide_resnet28_10': cifar_cfg(
            paper_ids='arXiv:1605.07146', origin_url='https://github.com/szagoruyko/wide-residual-networks'
        ),
    }
)


@register_model
def wide_resnet28_10(pretrained: bool = False, **kwargs) -> WideResNet:
    """WRN-28-10: 36.5 M parameters, 5.25 GMACs at 32×32, 96.00 % on CIFAR-10."""
    args = dict(depth=28, widen_factor=10)
    return build_staged(WideResNet, 'wide_resnet28_10', pretrained, **dict(args, **kwargs))
