"""The motion blur of images whose directions differ."""

import torch
from torch import Tensor


def motion(x: Tensor, dy: Tensor, dx: Tensor, weights: Tensor) -> Tensor:
    """Blur each image along its own line of pixels, the edge repeated.

    The products are added one by one in the order of the line, so that doubles give the sum of
    `distill.corruptions.weather` to the last bit.

    Args:
        x: Floats [B, C, H, W].
        dy: Rows from a pixel down to those of its line, int64 [B, N].
        dx: Columns from a pixel right to those of its line, int64 [B, N].
        weights: Of the pixels of the line, [N].

    Returns:
        [B, C, H, W].
    """
    height, width = x.shape[2:]
    rows = (torch.arange(height, device=x.device) + dy.unsqueeze(2)).clamp_(0, height - 1)
    columns = (torch.arange(width, device=x.device) + dx.unsqueeze(2)).clamp_(0, width - 1)
    pixels = x.flatten(2)
    total = torch.zeros_like(pixels)
    for weight, row, column in zip(weights.to(x.dtype), rows.unbind(1), columns.unbind(1), strict=True):
        source = (row.unsqueeze(2) * width + column.unsqueeze(1)).flatten(1)
        # Not one operation with the sum: a card would round but once.
        total += weight * pixels.gather(2, source.unsqueeze(1).expand_as(pixels))
    return total.view_as(x)
