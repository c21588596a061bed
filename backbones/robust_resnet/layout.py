"""Where the stages of a Robust-ResNet stride, and what becomes of strides that an output stride forbids."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

TOTAL_STRIDE = 32
"""Stride of the last map, unless an output stride or a dilated stem makes the map denser."""


@dataclass(frozen=True)
class StageLayout:
    """Strides and dilations of one stage.

    Attributes:
        strides: Stride of each block in the undilated network.
        dilations: Dilation of the depthwise kernel of each block.
        dilated: No block strides: the later blocks and stages are dilated instead.
        reduction: Stride of the map that the stage returns, in pixels of the image.
    """

    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    dilated: bool
    reduction: int


def lay_out(
    depths: Sequence[int], patch_size: int, stem_stride: int, output_stride: int, stride_last: bool
) -> list[StageLayout]:
    """Spread the strides that the stem leaves over the last stages.

    Args:
        depths: Blocks of each stage.
        patch_size: Stride of the stem in the undilated network.
        stem_stride: Stride of the stem.
        output_stride: Largest stride of a map; strides beyond it become dilation.
        stride_last: A stage strides in its last block instead of its first, and so one stage earlier.
    """
    num_striding = round(math.log2(TOTAL_STRIDE // patch_size))
    first_striding = len(depths) - num_striding - int(stride_last)
    reduction, dilation = stem_stride, patch_size // stem_stride
    layout = []
    for i, depth in enumerate(depths):
        striding = first_striding <= i < first_striding + num_striding
        dilated = striding and reduction >= output_stride
        place = depth - 1 if stride_last else 0
        strides = tuple(2 if striding and j == place else 1 for j in range(depth))
        # The block that gave up its stride still sees the map it would have seen: only later blocks dilate.
        dilations = tuple(dilation * (2 if dilated and j > place else 1) for j in range(depth))
        dilation *= 2 if dilated else 1
        reduction *= 2 if striding and not dilated else 1
        layout.append(StageLayout(strides, dilations, dilated, reduction))
    return layout
