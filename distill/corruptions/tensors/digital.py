"""Resolution and elastic deformation on tensors."""

from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distill.corruptions.digital import box_matrix, elastic_lengths, elastic_port_lengths, smoothing
from distill.corruptions.tensors.arithmetic import separable, to_uint8

STEP_BITS = 5
"""OpenCV reads images at multiples of 1/32 pixel."""
AFFINE_BITS = 10
"""In an affine map it first rounds what the row and what the column contribute to 1/1024 pixel."""


@lru_cache(maxsize=32)
def _box(size: int, small: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pixels that `distill.corruptions.digital.box_matrix` averages.

    Returns:
        Two: ones where a pixel belongs to a new one, float32 [small, size]; how many do, [small].
    """
    inside = (box_matrix(size, small).toarray() > 0).astype(np.float32)
    return torch.from_numpy(inside).to(device), torch.from_numpy(inside.sum(axis=1)).to(device)


@lru_cache(maxsize=32)
def _nearest(small: int, size: int, device: torch.device) -> Tensor:
    """The pixel that Pillow takes for each when it enlarges an axis, [size]."""
    pixels = Image.fromarray(np.arange(small, dtype=np.int32)[None])
    nearest = np.asarray(pixels.resize((size, 1), Image.Resampling.NEAREST))[0]
    return torch.from_numpy(nearest.astype(np.int64)).to(device)


def pixelate(x: Tensor, factor: float) -> Tensor:
    """Shrink the sides by `factor`, the width first, and enlarge them again, see `distill.corruptions.digital`."""
    height, width = x.shape[2:]
    rows, row_counts = _box(height, int(height * factor), x.device)
    columns, column_counts = _box(width, int(width * factor), x.device)
    # Sums of whole numbers are exact, and so is half a level, which rounds up.
    small = (x.float() @ columns.T).div_(column_counts).add_(0.5).floor_()
    small = (rows @ small).div_(row_counts[:, None]).add_(0.5).byte()
    small = small.index_select(2, _nearest(len(rows), height, x.device))
    return small.index_select(3, _nearest(len(columns), width, x.device))


def _mirrored(place: Tensor, size: int, edge_twice: bool) -> Tensor:
    """The pixels of an axis at any whole places, where the image goes on as in a mirror.

    Args:
        place: int64.
        size: Pixels of the axis.
        edge_twice: Whether the mirror stands behind the pixel at the edge, or in it.
    """
    last = 2 * size - (1 if edge_twice else 2)
    place = place.remainder(last + edge_twice)
    return torch.minimum(place, last - place)


def _read(x: Tensor, y_steps: Tensor, x_steps: Tensor, edge_twice: bool) -> Tensor:
    """Read images between their pixels by linear interpolation, in OpenCV's order of operations.

    Args:
        x: Float32 [B, C, H, W].
        y_steps: Where in the image, in units of 1/32 pixel: int64 [B, H, W].
        x_steps: The same along its width.
        edge_twice: See `_mirrored`.
    """
    height, width = x.shape[2:]
    top, left = y_steps >> STEP_BITS, x_steps >> STEP_BITS
    y_share, x_share = (
        (steps & ((1 << STEP_BITS) - 1)).float().div_(1 << STEP_BITS).unsqueeze(1) for steps in (y_steps, x_steps)
    )
    rows = [_mirrored(row, height, edge_twice) * width for row in (top, top + 1)]
    columns = [_mirrored(column, width, edge_twice) for column in (left, left + 1)]
    total = None
    for row, of_row in zip(rows, (1 - y_share, y_share), strict=True):
        for column, of_column in zip(columns, (1 - x_share, x_share), strict=True):
            place = (row + column).flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
            part = x.flatten(2).gather(2, place).view_as(x) * (of_row * of_column)
            total = part if total is None else total.add_(part)
    return total


@lru_cache(maxsize=32)
def _smoothing(size: int, sigma: float, device: torch.device) -> Tensor:
    """The matrix of `distill.corruptions.digital.smoothing`, doubles [size, size]."""
    return torch.from_numpy(smoothing(size, sigma)).to(device, torch.float64)


def _displace(x: Tensor, noise: Tensor, amplitude: float, sigmas: tuple[float, float]) -> Tensor:
    """Displace the pixels by smoothed noise, see `distill.corruptions.digital.displace`.

    Sums in doubles, so that their order, which may change with the size of the batch, makes no difference.

    Args:
        x: Float32 [B, 3, H, W].
        noise: Of dy and dx, float32 [B, 2, H, W].
        amplitude: Pixels by which the smoothed noise is multiplied.
        sigmas: Of the smoothing along height and width, in pixels.
    """
    height, width = x.shape[2:]
    rows, columns = (_smoothing(size, sigma, x.device) for size, sigma in zip((height, width), sigmas, strict=True))
    dy, dx = separable(noise.double(), rows, columns).float().mul_(amplitude).unbind(1)
    dy = dy + torch.arange(height, device=x.device)[:, None]
    dx = dx + torch.arange(width, device=x.device)
    y_steps, x_steps = ((place * (1 << STEP_BITS)).round_().long() for place in (dy, dx))
    return to_uint8(_read(x, y_steps, x_steps, edge_twice=True))


def elastic_transform(x: Tensor, constants: tuple[float, float, float], affine: Tensor, noise: Tensor) -> Tensor:
    """Apply an affine map, then smooth displacements.

    Args:
        x: uint8 [B, 3, H, W].
        constants: As of `distill.corruptions.digital.elastic_transform`.
        affine: From a pixel's (x, y, 1) to where it comes from, doubles [B, 2, 3].
        noise: Of dy and dx, float32 [B, 2, H, W].
    """
    height, width = x.shape[2:]
    amplitude, sigma, _ = elastic_lengths(height, width, constants)
    of_x, of_y, shift = affine.unsqueeze(2).unbind(3)
    columns, rows = (torch.arange(size, dtype=torch.float64, device=x.device) for size in (width, height))
    along = (of_x * columns * (1 << AFFINE_BITS)).round_().long()
    down = ((of_y * rows + shift) * (1 << AFFINE_BITS)).round_().long()
    dropped = AFFINE_BITS - STEP_BITS
    places = down[:, :, :, None] + along[:, :, None] + (1 << dropped >> 1)
    x_steps, y_steps = (places >> dropped).unbind(1)
    x = _read(x.float(), y_steps, x_steps, edge_twice=False)
    return _displace(x, noise, amplitude, (sigma, sigma))


def elastic_transform_port(x: Tensor, alpha: float, noise: Tensor) -> Tensor:
    """Apply smooth displacements only.

    Args:
        x: uint8 [B, 3, H, W].
        alpha: As of `distill.corruptions.digital.elastic_transform_port`.
        noise: Of dy and dx, float32 [B, 2, H, W].
    """
    return _displace(x.float(), noise, *elastic_port_lengths(*x.shape[2:], alpha))
