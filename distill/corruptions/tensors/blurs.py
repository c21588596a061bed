"""The blurs on tensors."""

import math
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from distill.corruptions import blurs, glass
from distill.corruptions.tensors.arithmetic import correlate, divide, separable, to_uint8
from distill.corruptions.tensors.motion import motion


@lru_cache(maxsize=16)
def _gaussian(sigma: float, device: torch.device) -> Tensor:
    """The weights of `distill.corruptions.blurs.gaussian`, [1, taps]."""
    taps = 2 * int(4 * sigma + 0.5) + 1
    return torch.from_numpy(cv2.getGaussianKernel(taps, sigma, cv2.CV_32F).T).to(device)


def gaussian_blur(x: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian of `sigma` pixels."""
    weights = _gaussian(sigma, x.device)
    return to_uint8(correlate(correlate(x.float(), weights, 'replicate'), weights.T, 'replicate'))


@lru_cache(maxsize=16)
def _disk(radius: int, alias_blur: float, device: torch.device) -> tuple[Tensor, float]:
    """The disk of `distill.corruptions.blurs.disk`, and the tolerance that its sum asks for."""
    kernel = blurs.disk(radius, alias_blur)
    tolerance = math.copysign(blurs.TOLERANCE, kernel.sum(dtype=np.float64) - 1)
    return torch.from_numpy(kernel).to(device), tolerance


def defocus_blur(x: Tensor, constants: tuple[int, float]) -> Tensor:
    """Blur by a disk."""
    kernel, tolerance = _disk(*constants, x.device)
    return to_uint8(correlate(x.float(), kernel, 'reflect'), tolerance)


def motion_draws(
    rng: np.random.Generator, height: int, width: int, constants: tuple[int, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the line of pixels of a motion blur: dy and dx."""
    return blurs.motion_line(*constants, blurs.motion_angle(rng))[:2]


def motion_blur(x: Tensor, constants: tuple[int, float], dy: Tensor, dx: Tensor) -> Tensor:
    """Motion blur along the line of each image."""
    weights = torch.from_numpy(blurs.motion_line(*constants, 0)[2]).to(x.device, torch.float32)
    return to_uint8(motion(x.float(), dy, dx, weights))


@lru_cache(maxsize=64)
def _zooms(size: int, factors: tuple[float, ...], device: torch.device) -> Tensor:
    """The matrices of the zooms of an axis, [zooms, size, size]."""
    zooms = [blurs.zoom_matrix(size, factor)[:size].toarray() for factor in factors]
    return torch.from_numpy(np.stack(zooms).astype(np.float32)).to(device)


def zoom_blur(x: Tensor, factors: np.ndarray) -> Tensor:
    """The mean of the image and of its zooms."""
    factors = tuple(factors.tolist())
    zooms = tuple(factor for factor in factors if factor != 1)
    images = x.float()
    total = images * (1 + len(factors) - len(zooms))
    for rows, columns in zip(*(_zooms(size, zooms, x.device) for size in x.shape[2:]), strict=True):
        total += separable(images, rows, columns)
    return to_uint8(divide(total, len(factors) + 1))


def glass_blur(x: Tensor, constants: tuple[float, int, int], draw: Tensor) -> Tensor:
    """Blur, displace the pixels, and blur again, see `distill.corruptions.glass.glass_blur_from`."""
    sigma, reach, _ = constants
    height, width = x.shape[2:]
    count = height * width
    pixels = _exact_gaussian(x, sigma).flatten(2)
    steps = torch.from_numpy(glass.steps_to_sources(reach, height, width)).to(x.device)[draw.long()]
    for step in steps.unbind(1):
        source = torch.arange(count, 2 * count, device=x.device).view(height, width).repeat(len(x), 1, 1)
        source[:, reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] += step
        source = source.flatten(1)
        for _ in range(math.ceil(math.log2(count))):  # A chain of sources doubles its reach each time.
            source = torch.where(source < count, source.gather(1, source % count), source)
        pixels = pixels.gather(2, (source % count).unsqueeze(1).expand_as(pixels))
    return _exact_gaussian(pixels.view_as(x), sigma)


def _exact_gaussian(x: Tensor, sigma: float) -> Tensor:
    """scikit-image's Gaussian filter of uint8 [B, C, H, W], its operations in doubles in scipy's order."""
    weights = glass.gaussian_weights(sigma).tolist()
    middle = len(weights) // 2
    levels = divide(x.double(), 255)
    for axis in (2, 3):
        size = levels.shape[axis]
        place = torch.arange(-middle, size + middle, device=x.device).clamp_(0, size - 1)
        padded = levels.index_select(axis, place)
        levels = padded.narrow(axis, middle, size) * weights[middle]
        for tap in range(middle):
            levels += (padded.narrow(axis, tap, size) + padded.narrow(axis, 2 * middle - tap, size)) * weights[tap]
    return (levels * 255).clamp_(max=255).byte()
