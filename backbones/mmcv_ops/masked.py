"""Convolution at chosen places only: gathering its windows into columns, and scattering columns into a map.

Conventions of mmcv 2.1, ``ops/csrc/common/cuda/masked_conv2d_cuda_kernel.cuh``.
"""

import torch.nn.functional as F
from torch import Tensor


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Copy the window around each place into a column of ``col``.

    Args:
        im: One map [1, C, H, W].
        mask_h_idx: Row of each place in the output's grid (stride 1) [M].
        mask_w_idx: Column of each place [M].
        col: Receives the windows [C * kernel_h * kernel_w, M].
        kernel_h: Height of a window.
        kernel_w: Width of a window.
        pad_h: Rows of zeros above and below the map.
        pad_w: Columns of zeros left and right of the map.
    """
    windows = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h)).unfold(1, kernel_h, 1).unfold(2, kernel_w, 1)
    col.copy_(windows[:, mask_h_idx, mask_w_idx].permute(0, 2, 3, 1).reshape(col.shape))


def masked_col2im_forward(
    col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, im: Tensor, height: int, width: int, channels: int
) -> None:
    """Write columns [channels, M] to their places in ``im`` [1, channels, height, width], and nothing elsewhere."""
    im[0][:, mask_h_idx, mask_w_idx] = col.to(im)
