"""Snow, frost and fog on tensors."""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.corruptions import weather
from distill.corruptions.blurs import TOLERANCE, centre, motion_line, zoom_matrix
from distill.corruptions.tensors.arithmetic import divide, separable
from distill.corruptions.tensors.motion import motion

GRAY = np.float32((0.299, 0.587, 0.114)).tolist()
"""Shares of red, green and blue, as in OpenCV: in single precision."""


@lru_cache(maxsize=32)
def _zoom(size: int, factor: float, device: torch.device) -> Tensor:
    """The matrix of `distill.corruptions.blurs.zoom_matrix` for the pixels that are zoomed into, doubles."""
    start, length = centre(size, factor)
    return torch.from_numpy(zoom_matrix(size, factor).toarray()[:, start : start + length]).to(device)


def snow(x: Tensor, constants: tuple, noise: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
    """Let snow fall, see `distill.corruptions.weather.snow_from`.

    Args:
        x: uint8 [B, 3, H, W].
        constants: As of `distill.corruptions.weather.snow`.
        noise: The middle of what flakes are made of, float32 [B, rows, columns].
        dy: Rows of the line along which each image's flakes fall, see `motion`.
        dx: Its columns.
    """
    _, _, factor, threshold, radius, sigma, weight = constants
    height, width = x.shape[2:]
    flakes = separable(noise.double(), _zoom(height, factor, x.device), _zoom(width, factor, x.device))
    flakes = flakes.clamp(0, 1) * (flakes >= threshold)
    weights = torch.from_numpy(motion_line(radius, sigma, 0)[2]).to(x.device)
    flakes = (255 * motion(flakes.unsqueeze(1), dy, dx, weights)).round_()[:, :, :height, :width]
    flakes = (flakes + flakes.flip(2, 3)).clamp_(max=255)
    x = divide(x.float(), 255)
    white = 1.5 * _gray(x) + 0.5
    white = torch.maximum(x, white) * (1 - weight)
    x = x * weight + white
    levels = (255 * x.double()).clamp_(max=255).floor_()
    return (levels + flakes).clamp_(max=255).byte()


def _gray(x: Tensor) -> Tensor:
    """The gray [B, 1, H, W] of colours in float32, as OpenCV adds them up: a product and its sum are rounded once."""
    red, green, blue = x.split(1, dim=1)
    gray = (red.double() * GRAY[0] + green * GRAY[1]).float()
    return (blue.double() * GRAY[2] + gray).float()


@lru_cache(maxsize=16)
def _frost_levels(image_weight: float, frost_weight: float, device: torch.device) -> Tensor:
    return torch.from_numpy(weather.frost_table(image_weight, frost_weight)).to(device)


def frost(x: Tensor, constants: tuple[float, float], crop: Tensor) -> Tensor:
    """Lay a crop of a texture, uint8 [B, H, W, 3], over each image."""
    return _frost_levels(*constants, x.device)[(crop.permute(0, 3, 1, 2).long() << 8) | x]


def fog(x: Tensor, constants: tuple[float, float], draws: Tensor) -> Tensor:
    """Add fog, see `distill.corruptions.weather.fog`.

    Args:
        x: uint8 [B, 3, H, W].
        constants: Thickness, and decay of the roughness.
        draws: Of the height map, float32 [B, side²] in [-1, 1).
    """
    thickness, decay = constants
    height, width = x.shape[2:]
    mist = _plasma(draws, decay)[:, None, :height, :width]
    brightest = divide(x.amax(dim=(1, 2, 3)).double(), 255)[:, None, None, None]
    scale = brightest / (brightest + thickness)
    mist = 255 * thickness * scale * mist
    return (x * scale + (mist + (TOLERANCE - 0.5))).round_().clamp_(0, 255).byte()


def _plasma(draws: Tensor, decay: float) -> Tensor:
    """Height maps by `distill.corruptions.weather.plasma`, between 0 and 1.

    Args:
        draws: In the order in which they are used, [B, side²]; the first is not.
        decay: The roughness is divided by it at each halving of the step.

    Returns:
        [B, side, side].
    """
    count, side = len(draws), math.isqrt(draws.shape[1])
    corners, roughness, used = draws.new_zeros(count, 1, 1), 100.0, 0
    while corners.shape[1] < side:
        size = corners.shape[1]
        amplitude = roughness * roughness
        wobbles = draws[:, used : used + 3 * size * size].view(count, 3, size, size) * amplitude
        used += 3 * size * size
        below, right = corners.roll(-1, 1), corners.roll(-1, 2)
        down = corners + below
        centres = (down + down.roll(-1, 2)) * 0.25 + wobbles[:, 0]
        across = (centres + centres.roll(1, 1) + corners + right) * 0.25 + wobbles[:, 1]
        along = (centres + centres.roll(1, 2) + corners + below) * 0.25 + wobbles[:, 2]
        # [B, 4, size, size], the four pixels of a corner's square, to their places.
        corners = F.pixel_shuffle(torch.stack((corners, across, along, centres), dim=1), 2).squeeze(1)
        roughness /= decay
    corners = corners - corners.amin(dim=(1, 2), keepdim=True)
    return corners / corners.amax(dim=(1, 2), keepdim=True)
