"""Operations that several corruptions share. Images are tensors [B, C, H, W]."""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.corruptions.blurs import TOLERANCE


def to_uint8(x: Tensor, tolerance: float = TOLERANCE) -> Tensor:
    """Grey levels in floats as uint8, cut to [0, 255] and without fractions: `distill.corruptions.blurs.to_uint8`."""
    return (x + (tolerance - 0.5)).round_().clamp_(0, 255).byte()


def divide(x: Tensor, number: float) -> Tensor:
    """Divide as a CPU does: on a card torch multiplies by the reciprocal of a plain number, which rounds otherwise."""
    return x / torch.full((), number, dtype=x.dtype, device=x.device)


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Matrices applied to both axes: ``rows @ x @ columnsᵀ``.

    Args:
        x: [..., H, W].
        rows: [H', H], in the type of ``x``.
        columns: [W', W].
    """
    return rows @ x @ columns.mT


def correlate(x: Tensor, kernel: Tensor, mode: str) -> Tensor:
    """Weigh the pixels around each pixel.

    Args:
        x: [B, C, H, W], floats.
        kernel: Weights [rows, columns] for all images, in the type of ``x``; its middle stands for the pixel.
        mode: How the image is continued: ``reflect`` (without the edge) or ``replicate``, as in `F.pad`.

    Returns:
        [B, C, H, W].
    """
    rows, columns = kernel.shape
    top, left = rows // 2, columns // 2
    x = F.pad(x, (left, columns - 1 - left, top, rows - 1 - top), mode=mode)
    return F.conv2d(x.flatten(0, 1).unsqueeze(1), kernel[None, None]).unflatten(0, x.shape[:2]).squeeze(2)


def unsigned(draw: Tensor) -> Tensor:
    """Draws of 16 or 32 bits, which travel with a sign, as whole numbers of at least 0: int64."""
    return draw.long() & ((1 << 8 * draw.element_size()) - 1)
