"""JPEG on tensors: what libjpeg makes of an image by its defaults, to the last bit.

These are the whole-number operations of libjpeg-turbo's accurate ("islow") transforms with chroma at half resolution.
Coding the coefficients loses nothing and is left out. A pass of libjpeg's transforms is a sum of integers with integer
weights, then a shift that rounds; doubles hold these sums exactly, so that a pass is a product with a matrix here. All
planes are kept about the middle level, 128 less than in a file.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MIDDLE = 128
"""The grey level that the transforms take as zero."""
_DCT_HALF = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)
"""What libjpeg's butterflies come to, in units of 2**-13: the weights of the first four samples in each frequency."""
_TO_YCC = ((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329))
"""Y, Cb and Cr of red, green and blue, in units of 2**-16."""
_TO_RGB = ((65536, 0, 91881), (65536, -22554, -46802), (65536, 116130, 0))
_LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation of quality 50, from the standard's annex K."""
_CHROMA_STEPS = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
"""The lowest frequencies; 99 elsewhere."""


def jpeg_compression(x: Tensor, quality: int) -> Tensor:
    """Compress as JPEG.

    Args:
        x: uint8 [B, 3, H, W].
        quality: From 1 to 100.
    """
    height, width = x.shape[2:]
    planes = F.pad(x.double(), (0, -width % 16, 0, height % 2), mode='replicate')
    to_ycc, to_rgb, offset = _colours(x.device)
    planes = (to_ycc @ planes.flatten(2)).add_(offset).floor_().unflatten(2, planes.shape[2:])
    luma_steps, chroma_steps = _steps(quality, x.device)
    luma = _code(planes[:, :1], luma_steps)
    chroma = _code(_halved(planes[:, 1:]), chroma_steps)
    chroma = _doubled(chroma[:, :, : (height + 1) // 2, : (width + 1) // 2])
    planes = torch.cat((luma[:, :, :height, :width], chroma[:, :, :height, :width]), dim=1)
    colours = (to_rgb @ planes.flatten(2)).add_(MIDDLE + 0.5).floor_()
    return colours.clamp_(0, 255).byte().view_as(x)


@lru_cache(maxsize=4)
def _colours(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The matrices to Y, Cb, Cr and back, [3, 3], and what rounds the former, [3, 1].

    libjpeg rounds half a level of luma up and half a level of chroma down.
    """
    to_ycc, to_rgb = (torch.tensor(matrix, dtype=torch.float64) / 2**16 for matrix in (_TO_YCC, _TO_RGB))
    offset = torch.tensor([[0.5 - MIDDLE], [0.5 - 2**-16], [0.5 - 2**-16]], dtype=torch.float64)
    return to_ycc.to(device), to_rgb.to(device), offset.to(device)


@lru_cache(maxsize=16)
def _steps(quality: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The quantisation of luma and chroma, doubles [8, 1, 8]: a step for each vertical and horizontal frequency."""
    chroma = np.full((8, 8), 99)
    chroma[:4, :4] = _CHROMA_STEPS
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = ((np.array(table) * percent + 50) // 100 for table in (_LUMA_STEPS, chroma))
    luma, chroma = (torch.from_numpy(table.clip(1, 255)[:, None].astype(np.float64)).to(device) for table in tables)
    return luma, chroma


@lru_cache(maxsize=4)
def _dct(device: torch.device) -> Tensor:
    """libjpeg's discrete cosine transform, doubles [frequency, sample]: the sum of a block is frequency 0."""
    half = np.array(_DCT_HALF)
    signs = np.where(np.arange(8) % 2, -1, 1)[:, None]
    return torch.from_numpy(np.concatenate((half, signs * half[:, ::-1]), axis=1) / 2**13).to(device)


def _rounded(x: Tensor) -> Tensor:
    """The nearest whole numbers in place, halves up."""
    return x.add_(0.5).floor_()


def _code(planes: Tensor, steps: Tensor) -> Tensor:
    """Transform blocks of 8x8, quantise, and transform back.

    libjpeg rounds between the axes, to a quarter of a unit, hence the powers of two.

    Args:
        planes: Doubles [B, C, H, W] about zero, W a multiple of 8.
        steps: As by `_steps`.

    Returns:
        Whole numbers from -128 to 127, [B, C, H', W], where H' is H up to a multiple of 8.
    """
    planes = F.pad(planes, (0, 0, 0, -planes.shape[2] % 8), mode='replicate')
    dct = _dct(planes.device)
    rows = _rounded(planes.unflatten(3, (-1, 8)) @ (dct.T * 4)).flatten(3)
    frequencies = _rounded((dct / 4) @ rows.unflatten(2, (-1, 8))).unflatten(4, (-1, 8))
    # The transform is eight times the standard's.
    levels = _rounded(frequencies.abs() / (8 * steps))
    frequencies = (levels * steps).copysign_(frequencies).flatten(4)
    columns = _rounded((dct.T * 4) @ frequencies).flatten(2, 3)
    samples = _rounded(columns.unflatten(3, (-1, 8)) @ (dct / 32)).flatten(3)
    return samples.clamp_(-MIDDLE, MIDDLE - 1)


def _halved(chroma: Tensor) -> Tensor:
    """The means of 2x2 pixels; libjpeg rounds halves down and up in turns along a row, other fractions to the nearest.

    Args:
        chroma: Doubles [B, C, H, W] of even sides.
    """
    means = F.avg_pool2d(chroma, 2)
    column = torch.arange(means.shape[3], device=chroma.device)
    return means.add_((column % 2 + 1) / 4).floor_()


def _doubled(chroma: Tensor) -> Tensor:
    """Double the sides by libjpeg's triangle filter: along each axis 3/4 of the nearer sample, 1/4 of the further one.

    Args:
        chroma: Doubles [B, C, H, W].
    """
    padded = F.pad(chroma, (1, 1, 1, 1), mode='replicate')
    near = 3 * padded[:, :, 1:-1]
    rows = torch.stack((near + padded[:, :, :-2], near + padded[:, :, 2:]), dim=3).flatten(2, 3)
    near = 3 * rows[:, :, :, 1:-1]
    # Halves are rounded up and down in turns along a row.
    sums = torch.stack((near + rows[:, :, :, :-2] + 8, near + rows[:, :, :, 2:] + 7), dim=4).flatten(3)
    return sums.div_(16).floor_()
