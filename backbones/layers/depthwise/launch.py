"""Run the kernels of `backbones.layers.depthwise.kernels` with a given configuration.

This module can be imported without Triton; its functions cannot be called without.
"""

import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from math import ceil

import torch
from torch import Tensor

from backbones.layers.depthwise.tiling import Geometry, Tiling, tile_plane
from backbones.layers.memory_format import is_channels_last

HAS_TRITON = find_spec('triton') is not None
PROGRAMS = 528
"""Programs that fill a card, whichever: the order of sums must not depend on it."""
LARGEST_PARTS = 1 << 26
"""Elements of the intermediate sums of a weight gradient, 256 MiB."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Config:
    """One way to compute a convolution or a gradient.

    Attributes:
        way: ``torch`` for torch's own, ``matrix`` for matrix products of planes, ``direct`` for a sum over taps.
        blocks: Rows, columns and depth of a block of the product; pixels and channels of a direct block.
        warps: Warps of a program.
        stages: Depth of the software pipeline.
    """

    way: str
    blocks: tuple[int, ...] = ()
    warps: int = 4
    stages: int = 2

    def __str__(self) -> str:
        return f'{self.way} {"×".join(map(str, self.blocks))} w{self.warps}s{self.stages}' if self.blocks else self.way


@cache
def can_run(device: torch.device) -> bool:
    """Whether the kernels run on a device: from NVIDIA's Ampere on, and on a CPU in Triton's interpreter."""
    if not HAS_TRITON:
        return False
    if device.type == 'cuda':
        return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == 'cpu' and os.environ.get('TRITON_INTERPRET') == '1'


def to_planes(x: Tensor) -> Tensor:
    """A tensor [B, C, H, W] of any strides as contiguous planes."""
    if not is_channels_last(x):
        return x.contiguous()
    planes = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _transpose(x, planes, x.shape[2] * x.shape[3], x.shape[1])
    return planes


def from_planes(planes: Tensor, channels_last: bool) -> Tensor:
    """Contiguous planes [B, C, H, W], in ``channels_last`` if asked for."""
    if not channels_last:
        return planes
    out = torch.empty_like(planes, memory_format=torch.channels_last)
    _transpose(planes, out, planes.shape[1], planes.shape[2] * planes.shape[3])
    return out


def _transpose(a: Tensor, out: Tensor, rows: int, cols: int) -> None:
    from backbones.layers.depthwise.kernels import transpose

    block_rows, block_cols = (64, 64) if a.element_size() == 2 else (32, 64)
    grid = (ceil(cols / block_cols), ceil(rows / block_rows), len(a))
    with torch.cuda.device_of(a):
        transpose[grid](a, out, rows, cols, BR=block_rows, BC=block_cols, num_warps=4)


def convolve(
    a: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    transposed: bool,
    config: Config,
    channels_last: bool | None = None,
) -> Tensor:
    """A depthwise convolution, or its input gradient.

    Args:
        a: Input [B, C, H, W], or with ``transposed`` the gradient of the output [B, C, H', W'].
        weight: Kernels [C, 1, h, w], of any floating type.
        bias: Bias [C] or None.
        geometry: Geometry of the convolution.
        transposed: Compute the input gradient.
        config: A configuration that is not torch's.
        channels_last: Memory format of the result; None for that of ``a``.

    Returns:
        The output, or the gradient of the input, in the type of ``a``.
    """
    channels_last = is_channels_last(a) if channels_last is None else channels_last
    if config.way == 'direct':
        return _convolve_directly(a, weight, bias, geometry, transposed, config)
    planes = to_planes(a)
    target = geometry.input if transposed else geometry.output
    out = torch.empty(*a.shape[:2], *target, dtype=a.dtype, device=a.device)
    tiling = tile_plane(geometry, len(a), transposed)
    from backbones.layers.depthwise import kernels

    block_m, block_n, block_k = config.blocks
    rows = len(a) * tiling.tiles
    grid = (a.shape[1] * ceil(tiling.pixels / block_n), ceil(rows / block_m))
    with torch.cuda.device_of(a):
        kernels.convolve[grid](
            planes, weight.contiguous(), bias, out, rows, a.shape[1],
            **_constants(geometry, tiling, transposed),
            TRANSPOSED=transposed, HAS_BIAS=bias is not None, PRECISION=_precision(a),
            BM=block_m, BN=block_n, BK=block_k, num_warps=config.warps, num_stages=config.stages,
        )  # fmt: skip
    return from_planes(out, channels_last)


def _convolve_directly(
    a: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, transposed: bool, config: Config
) -> Tensor:
    from backbones.layers.depthwise import kernels

    a = a.contiguous(memory_format=torch.channels_last)
    shape = (*a.shape[:2], *(geometry.input if transposed else geometry.output))
    out = torch.empty(shape, dtype=a.dtype, device=a.device, memory_format=torch.channels_last)
    pixels = len(a) * shape[2] * shape[3]
    block_p, block_c = config.blocks
    grid = (ceil(a.shape[1] / block_c) * ceil(pixels / block_p),)
    with torch.cuda.device_of(a):
        kernels.convolve_directly[grid](
            a, weight.flatten(1).t().contiguous(), bias, out, pixels, a.shape[1],
            **_constants(geometry, None, transposed), TRANSPOSED=transposed, HAS_BIAS=bias is not None,
            BP=block_p, BC=block_c, num_warps=config.warps, num_stages=config.stages,
        )  # fmt: skip
    return out


def correlate(x: Tensor, grad: Tensor, geometry: Geometry, dtype: torch.dtype, config: Config) -> Tensor:
    """The gradient of the kernels.

    Args:
        x: Input [B, C, H, W].
        grad: Gradient of the output [B, C, H', W'].
        geometry: Geometry of the convolution.
        dtype: Type of the result.
        config: A configuration by matrix products.

    Returns:
        dL/dw [C, 1, h, w].
    """
    from backbones.layers.depthwise import kernels

    chs, (height, width) = x.shape[1], geometry.kernel
    tiling = tile_plane(geometry, len(x), transposed=False)
    block_m, block_n, block_k = config.blocks
    rows, blocks = len(x) * tiling.tiles, chs * ceil(tiling.window / block_m) * ceil(tiling.pixels / block_n)
    splits = splits_of(tiling, geometry, rows, chs, blocks, block_k)
    rows_each = ceil(ceil(rows / splits) / block_k) * block_k
    splits = ceil(rows / rows_each)
    parts = torch.empty(chs, splits, tiling.pixels, height * width, dtype=torch.float32, device=x.device)
    out = torch.empty(chs, 1, height, width, dtype=dtype, device=x.device)
    constants = _constants(geometry, tiling, False)
    with torch.cuda.device_of(x):
        kernels.correlate[(blocks, splits)](
            to_planes(x), to_planes(grad), parts, rows, chs, rows_each,
            **constants, PRECISION=_precision(x),
            BM=block_m, BN=block_n, BK=block_k, num_warps=config.warps, num_stages=config.stages,
        )  # fmt: skip
        columns = 1 << (height * width - 1).bit_length()
        unused = ('HA', 'WA', 'HO', 'WO', 'TILES', 'TILES_X', 'AY', 'AX')
        kernels.sum_parts[(chs,)](
            parts, out, splits, **{name: number for name, number in constants.items() if name not in unused},
            BR=max(1, 4096 // columns), TAPS=columns, num_warps=4,
        )  # fmt: skip
    return out


def splits_of(tiling: Tiling, geometry: Geometry, rows: int, chs: int, blocks: int, block_k: int) -> int:
    """Into how many parts the rows of a weight gradient are split, so that the card is full and memory is not."""
    each = chs * tiling.pixels * geometry.kernel[0] * geometry.kernel[1]
    return max(1, min(ceil(PROGRAMS / blocks), ceil(rows / (4 * block_k)), LARGEST_PARTS // each))


def fits(x: Tensor, geometry: Geometry, weight_gradient: bool) -> bool:
    """Whether the kernels can take this shape."""
    if x.dtype not in DTYPES or x.dim() != 4 or x.numel() == 0 or min(geometry.output) < 1:
        return False
    largest = len(x) * x.shape[1] * max(geometry.input[0] * geometry.input[1], geometry.output[0] * geometry.output[1])
    tilings = [tile_plane(geometry, len(x), transposed) for transposed in (False, True)]
    if largest >= 1 << 31 or any(min(tiling.y.window, tiling.x.window) < 1 for tiling in tilings):
        return False
    taps = geometry.kernel[0] * geometry.kernel[1]
    return not weight_gradient or x.shape[1] * tilings[0].pixels * taps <= LARGEST_PARTS


def _precision(x: Tensor) -> str:
    if x.device.type == 'cpu':
        return 'interpreted'
    # Three products of 10 bits each make up for the 23 bits of fp32.
    return 'tf32x3' if x.dtype == torch.float32 else 'tf32'


@cache
def _constants(geometry: Geometry, tiling: Tiling | None, transposed: bool) -> dict[str, int]:
    source, target = geometry.input, geometry.output
    if transposed:
        source, target = target, source
    (kh, kw), (sy, sx), (py, px), (dy, dx) = geometry.kernel, geometry.stride, geometry.padding, geometry.dilation
    constants = dict(
        HA=source[0], WA=source[1], HO=target[0], WO=target[1],
        KH=kh, KW=kw, SY=sy, SX=sx, PY=py, PX=px, DY=dy, DX=dx,
    )  # fmt: skip
    if tiling is not None:
        y, x = tiling.y, tiling.x
        constants |= dict(
            TILES=tiling.tiles, TILES_X=x.tiles, TY=y.tile, TX=x.tile, WY=y.window, WX=x.window,
            OY=y.origin, OX=x.origin, AY=y.advance, AX=x.advance,
        )  # fmt: skip
    return constants
