"""The noises on tensors: the tables of `distill.corruptions.noise`, looked up by the same draws."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from distill.corruptions.draws import bits, normal_quantiles
from distill.corruptions.noise import photon_tables
from distill.corruptions.tensors.arithmetic import unsigned


def draw_16_bits(rng: np.random.Generator, height: int, width: int, constants: object) -> tuple[np.ndarray]:
    """Draw 16 bits for each value, [H, W, 3]."""
    return (bits(rng, (height, width, 3), np.uint16),)


def draw_32_bits(rng: np.random.Generator, height: int, width: int, constants: object) -> tuple[np.ndarray]:
    """Draw 32 bits for each value, [H, W, 3]."""
    return (bits(rng, (height, width, 3), np.uint32),)


@lru_cache(maxsize=4)
def _quantiles(device: torch.device) -> Tensor:
    return torch.from_numpy(normal_quantiles()).to(device)


def _normal(draw: Tensor) -> Tensor:
    """Standard normal deviates [B, 3, H, W] of draws [B, H, W, 3]."""
    return _quantiles(draw.device)[unsigned(draw).permute(0, 3, 1, 2)]


def gaussian_noise(x: Tensor, deviation: float, draw: Tensor) -> Tensor:
    """Add normal noise, see `distill.corruptions.noise.gaussian_noise`."""
    return _rounded(x + 255 * deviation * _normal(draw))


def speckle_noise(x: Tensor, deviation: float, draw: Tensor) -> Tensor:
    """Add normal noise in proportion to the grey level."""
    return _rounded(x + deviation * (x * _normal(draw)))


def _rounded(x: Tensor) -> Tensor:
    """Half a level less, to the nearest whole one."""
    return x.sub_(0.5).round_().clamp_(0, 255).byte()


def impulse_noise(x: Tensor, amount: float, draw: Tensor) -> Tensor:
    """Set a share `amount` of all values to black or white."""
    draw = unsigned(draw).permute(0, 3, 1, 2)
    limit = round(amount / 2 * (1 << 16))
    return x.masked_fill(draw < 2 * limit, 255).masked_fill_(draw < limit, 0)


@lru_cache(maxsize=16)
def _photons(photons: int, device: torch.device) -> tuple[int, Tensor, Tensor]:
    sides, threshold, grey = photon_tables(photons)
    return sides, torch.from_numpy(threshold.astype(np.int64)).to(device), torch.from_numpy(grey).to(device)


def shot_noise(x: Tensor, photons: int, draw: Tensor) -> Tensor:
    """Count photons, see `distill.corruptions.noise.shot_noise`."""
    sides, threshold, grey = _photons(photons, x.device)
    draw = unsigned(draw).permute(0, 3, 1, 2)
    cell = x.long() * sides + (draw & (sides - 1))
    return grey[2 * cell + (draw >= threshold[cell])]
