"""ShuffleNet v1: grouped pointwise convolutions with a channel shuffle between them.

Source: Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
CVPR 2018 (https://arxiv.org/abs/1707.01083) and the public code of its authors' group
(https://github.com/megvii-model/ShuffleNet-Series).

Differs from that code: the shuffle is the publication's (g rows transposed; there, its inverse) and the classifier
has a bias.
"""

import torch
import torch.nn.functional as F
from timm.models import generate_default_cfgs, register_model
from torch import nn

from backbones.layers.average_pool import AvgPool2d
from backbones.layers.memory_format import is_channels_last
from backbones.messages import choices
from backbones.staged import Stage, StagedNet, build_staged, imagenet_cfg

__all__ = ['ShuffleNetV1']

STAGE_WIDTHS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Output channels of stage 2 for each number of groups; stages 3 and 4 double it (table 1)."""


def channel_shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Reorder channels so that each group of the next convolution has inputs from every group of the last one.

    Channel i·g + j of the result is channel j·(C/g) + i of the input.

    Args:
        x: Features [B, C, H, W].
        groups: Number g of groups, a divisor of C.

    Returns:
        The same channels in another order [B, C, H, W], in the memory format of the input.
    """
    if is_channels_last(x):
        # Shuffled as planes they would be, and the next layer would copy them back.
        pixels = x.permute(0, 2, 3, 1).unflatten(-1, (groups, -1)).transpose(-1, -2).flatten(-2)
        return pixels.permute(0, 3, 1, 2)
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleBlock(nn.Module):
    """Grouped pointwise, shuffle, depthwise, grouped pointwise.

    A block that strides concatenates the average-pooled input; the others add it.

    Args:
        in_chs: Input channels.
        out_chs: Output channels.
        groups: Groups of the pointwise convolutions.
        stride: 1 or 2.
        group_first: Group the first convolution too.
    """

    def __init__(self, in_chs: int, out_chs: int, groups: int, stride: int, group_first: bool = True):
        super().__init__()
        mid_chs = out_chs // 4
        branch_chs = out_chs - in_chs if stride == 2 else out_chs
        self.groups = groups
        self.conv1 = nn.Conv2d(in_chs, mid_chs, 1, groups=groups if group_first else 1, bias=False)
        self.norm1 = nn.BatchNorm2d(mid_chs)
        self.act1 = nn.ReLU(inplace=True)
        self.conv_dw = nn.Conv2d(mid_chs, mid_chs, 3, stride, 1, groups=mid_chs, bias=False)
        self.norm2 = nn.BatchNorm2d(mid_chs)
        self.conv3 = nn.Conv2d(mid_chs, branch_chs, 1, groups=groups, bias=False)
        self.norm3 = nn.BatchNorm2d(branch_chs)
        self.pool = AvgPool2d(3, 2, 1) if stride == 2 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map features [B, C, H, W] to [B, C', H/stride, W/stride]."""
        y = self.act1(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv_dw(channel_shuffle(y, self.groups)))
        y = self.norm3(self.conv3(y))
        if self.pool is not None:
            return torch.cat([self.pool(x), F.relu(y)], dim=1)
        return F.relu(x + y)


class ShuffleNetV1(StagedNet):
    """A 3×3 stem, a max pool as stage 1, three stages of shuffle blocks, average pooling and a classifier.

    Args:
        groups: Groups of the pointwise convolutions: 1, 2, 3, 4 or 8.
        width: Factor on the width of stages 2 to 4.
        depths: Blocks of stages 2 to 4.
        in_chans: Input channels.
        num_classes: Classes; 0 leaves the classifier out.
        global_pool: timm's name of the pooling.
        drop_rate: Dropout before the classifier.

    Raises:
        ValueError: ``groups`` is not one of the publication's.
    """

    def __init__(
        self,
        groups: int = 3,
        width: float = 1.0,
        depths: tuple[int, int, int] = (4, 8, 4),
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
    ):
        if groups not in STAGE_WIDTHS:
            raise ValueError(f'groups {groups} is not available; choose from {choices(STAGE_WIDTHS)}')
        chs = 24
        stem = nn.Sequential(nn.Conv2d(in_chans, chs, 3, 2, 1, bias=False), nn.BatchNorm2d(chs), nn.ReLU(inplace=True))
        stages = [Stage(nn.MaxPool2d(3, 2, 1))]
        feature_info = [dict(num_chs=chs, reduction=4, module='stages.0')]
        for i, depth in enumerate(depths, start=1):
            out_chs = int(STAGE_WIDTHS[groups] * width) * 2 ** (i - 1)
            blocks = []
            for j in range(depth):
                # As published, the first convolution of stage 2 is not grouped: the stem has few channels.
                blocks.append(ShuffleBlock(chs, out_chs, groups, 2 if j == 0 else 1, group_first=i > 1 or j > 0))
                chs = out_chs
            stages.append(Stage(*blocks))
            feature_info.append(dict(num_chs=chs, reduction=4 * 2**i, module=f'stages.{i}'))
        super().__init__(stem, stages, feature_info, None, num_classes, global_pool, drop_rate)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')


default_cfgs = generate_default_cfgs(
    {
        'shufflenet_v1_g3_x1_0': imagenet_cfg(
            paper_ids='arXiv:1707.01083', origin_url='https://github.com/megvii-model/ShuffleNet-Series'
        ),
    }
)


@register_model
def shufflenet_v1_g3_x1_0(pretrained: bool = False, **kwargs) -> ShuffleNetV1:
    """ShuffleNet v1, 3 groups, 1×: 1.9 M parameters, 0.138 GMACs at 224×224, 67.8 % on ImageNet."""
    args = dict(groups=3, width=1.0)
    return build_staged(ShuffleNetV1, 'shufflenet_v1_g3_x1_0', pretrained, num_stages=4, **dict(args, **kwargs))
