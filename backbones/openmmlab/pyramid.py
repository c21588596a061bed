"""From a backbone's own strides to those of a feature pyramid."""

import math
from collections.abc import Sequence

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timm.layers import LayerNorm2d
from torch import Tensor, nn

__all__ = ['StagePyramid']


@MODELS.register_module()
class StagePyramid(BaseModule):
    """Resamples each feature map to the stride that a pyramid has at its place; comes before an FPN.

    Patchify networks return strides such as 16, 16, 16, 32, which an FPN accepts without a word although
    anchors and RoIs take 4, 8, 16, 32 for granted. Each map is projected to the pyramid's width first, so
    that upsampling costs the same whatever the backbone's width, then doubled by transposed convolutions,
    halved by max pooling, or left at its size; the factors come from the strides. The upsampling follows
    ViTDet's pyramid (Li et al., ECCV 2022, §3); projecting first differs from it.

    Args:
        in_channels: Channels of each map.
        in_strides: Stride of each map.
        out_channels: Channels of every level.
        out_strides: Stride of each level.

    Raises:
        ValueError: The lists are of different lengths, or a level is no power of two away from its map.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        out_channels: int = 256,
        out_strides: Sequence[int] = (4, 8, 16, 32),
    ):
        super().__init__()
        if not len(in_channels) == len(in_strides) == len(out_strides):
            raise ValueError(
                f'StagePyramid needs lists of one length: in_channels={tuple(in_channels)}, '
                f'in_strides={tuple(in_strides)}, out_strides={tuple(out_strides)}'
            )
        self.in_channels = tuple(in_channels)
        self.in_strides = tuple(in_strides)
        self.out_channels = (out_channels,) * len(out_strides)
        self.strides = tuple(out_strides)
        self.levels = nn.ModuleList(
            _level(*level, out_channels) for level in zip(in_channels, in_strides, out_strides, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Resample each map [B, in_channels[i], H, W] to [B, out_channels, …] of its level's stride."""
        return tuple(level(x) for level, x in zip(self.levels, maps, strict=True))


def _level(in_chs: int, in_stride: int, out_stride: int, chs: int) -> nn.Sequential:
    doublings = math.log2(in_stride / out_stride)
    if not doublings.is_integer():
        raise ValueError(f'stride {in_stride} cannot become {out_stride} by doubling or halving')
    layers = [nn.Conv2d(in_chs, chs, 1, bias=False), LayerNorm2d(chs)]
    for i in range(int(doublings)):
        layers += [nn.GELU()] if i else []
        layers += [nn.ConvTranspose2d(chs, chs, 2, stride=2)]
    layers += [nn.MaxPool2d(2, ceil_mode=True) for _ in range(-int(doublings))]
    return nn.Sequential(*layers)
