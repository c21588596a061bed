"""Necks that turn the strides of a backbone into those of a feature pyramid."""

import math
from collections.abc import Sequence

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timm.layers import LayerNorm2d
from torch import Tensor, nn

__all__ = ['SimpleFeaturePyramid', 'StagePyramid']


@MODELS.register_module()
class StagePyramid(BaseModule):
    """Resamples each feature map to the stride of its pyramid level; comes before an FPN.

    Patchify networks return strides such as 16, 16, 16, 32, which an FPN accepts without an error, although anchors and
    RoIs assume 4, 8, 16, 32. Each map is projected to the width of the pyramid first, so that the cost of upsampling
    does not depend on the width of the backbone, then doubled by transposed convolutions, halved by max pooling, or
    left at its size; the factors follow from the strides. The upsampling is that of ViTDet's pyramid (Li et al.,
    ECCV 2022, §3).

    Differs from ViTDet: the projection comes first.

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


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """The pyramid of ViTDet (Li et al., ECCV 2022, section 3): every level from the last map alone, without an FPN.

    The map of a plain transformer is doubled by transposed convolutions, each of which halves the channels, left at its
    size, or halved by max pooling; a 1×1 and a 3×3 convolution, each with a layer norm, then make the level. The
    factors follow from the strides: ×4, ×2, ×1, ×½ for a map of stride 16.

    Differs from ViTDet: a fifth level is pooled from the map, not subsampled from the fourth level.

    Args:
        in_channels: Channels of the last map.
        in_stride: Stride of the last map.
        out_channels: Channels of every level.
        out_strides: Stride of each level.

    Raises:
        ValueError: A level is no power of two away from the map.
    """

    def __init__(
        self,
        in_channels: int,
        in_stride: int,
        out_channels: int = 256,
        out_strides: Sequence[int] = (4, 8, 16, 32),
    ):
        super().__init__()
        self.in_channels = in_channels
        self.in_stride = in_stride
        self.out_channels = (out_channels,) * len(out_strides)
        self.strides = tuple(out_strides)
        levels = []
        for stride in out_strides:
            layers = _resampling(in_channels, in_stride, stride, shrink=2)
            chs = in_channels // max(1, in_stride // stride)
            layers += [nn.Conv2d(chs, out_channels, 1, bias=False), LayerNorm2d(out_channels)]
            layers += [nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), LayerNorm2d(out_channels)]
            levels.append(nn.Sequential(*layers))
        self.levels = nn.ModuleList(levels)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Make all levels [B, out_channels, …] from the last map [B, in_channels, H, W]; other maps are not used."""
        return tuple(level(maps[-1]) for level in self.levels)


def _level(in_chs: int, in_stride: int, out_stride: int, chs: int) -> nn.Sequential:
    layers = _resampling(chs, in_stride, out_stride)
    return nn.Sequential(nn.Conv2d(in_chs, chs, 1, bias=False), LayerNorm2d(chs), *layers)


def _resampling(chs: int, in_stride: int, out_stride: int, shrink: int = 1) -> list[nn.Module]:
    """Layers that take a map from one stride to another; each doubling divides the channels by ``shrink``."""
    doublings = math.log2(in_stride / out_stride)
    if not doublings.is_integer():
        raise ValueError(f'stride {in_stride} cannot become {out_stride} by doubling or halving')
    layers = []
    for i in range(int(doublings)):
        if i:
            layers += [LayerNorm2d(chs), nn.GELU()] if shrink > 1 else [nn.GELU()]
        layers += [nn.ConvTranspose2d(chs, chs // shrink, 2, stride=2)]
        chs //= shrink
    return layers + [nn.MaxPool2d(2, ceil_mode=True) for _ in range(-int(doublings))]
