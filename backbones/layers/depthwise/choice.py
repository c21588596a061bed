"""Which way a convolution or a gradient is computed: by rules, or by measurement once per shape if asked for.

The rules are the fastest ways on an NVIDIA H100 with torch 2.11 and Triton 3.6 (docs/speed.md). They compile one kernel
a pass and shape, and let a run that is resumed keep its bits. A measurement compiles and times all candidates, which
takes a minute for a small model: it is for other cards, see `MEASURE`.
"""

import itertools
import os
import statistics
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from backbones.layers.depthwise.launch import Config, can_run, fits
from backbones.layers.depthwise.tiling import Geometry, Tiling, tile_plane
from backbones.layers.memory_format import is_channels_last

Pass = Literal['forward', 'input', 'weight']
TORCH = Config('torch')
DIRECT = Config('direct', (16, 64), 4, 1)
MEASURE = 'ROBUST_BACKBONES_MEASURE_DEPTHWISE'
"""Environment variable: with 1 each shape is timed once in a process. Two processes may then choose differently, and
differ in the last bits; where determinism is asked for, the rules choose all the same. Read at the import."""
IS_MEASURING = os.environ.get(MEASURE) == '1'
NARROWEST_KERNEL = 5
"""Side of a kernel from which on this package's kernels may be the faster ones."""
FEWEST_ROWS = 48
"""Samples times tiles from which on they do: a matrix product has at least 64 rows."""
WIDEST_DIRECT = 13
"""Side of a kernel up to which its rows are unrolled."""
WIDEST_OF_TORCH = 7
"""Side of a kernel up to which cuDNN's kernels for ``channels_last`` are the faster ones: measured at 5 and 7, 11 and
13, in bf16."""
FEW_ROWS = 64
"""Samples times tiles up to which a sum over taps is faster in ``channels_last``."""
HEAD_START = 15_000_000
"""Cycles by which the host may be ahead of the card when the card is timed: some 9 ms."""
_MEASURED: dict[tuple, Config] = {}


def choose(
    name: Pass, x: Tensor, geometry: Geometry, run: Callable[[Config], object], channels_last: bool | None = None
) -> Config:
    """Choose a configuration for one pass of a convolution.

    Args:
        name: The output, the gradient of the input, or that of the kernels.
        x: Input of the convolution [B, C, H, W].
        geometry: Geometry of the convolution.
        run: Computes the pass with a configuration, to be timed.
        channels_last: Memory format; None reads it off ``x``.
    """
    if not can_run(x.device) or not fits(x, geometry, name == 'weight'):
        return TORCH
    if not (x.is_cuda and IS_MEASURING) or _is_deterministic():
        return by_rule(name, x, geometry)
    channels_last = is_channels_last(x) if channels_last is None else channels_last
    key = (name, tuple(x.shape), x.dtype, x.device, geometry, channels_last)
    if key not in _MEASURED:
        if torch.cuda.is_current_stream_capturing():
            return by_rule(name, x, geometry)
        times = {config: time_ms(run, config) for config in [TORCH, *candidates(name, x, geometry)]}
        _MEASURED[key] = min(times, key=times.__getitem__)
    return _MEASURED[key]


def _is_deterministic() -> bool:
    return torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled()


def leaves_to_torch(kernel: Sequence[int], channels_last: bool) -> bool:
    """Whether the rules take torch's own way for all passes of a kernel, whatever the plane.

    Args:
        kernel: Height and width of the kernel.
        channels_last: Memory format of the images.
    """
    return max(kernel) < NARROWEST_KERNEL or (channels_last and max(kernel) <= WIDEST_OF_TORCH)


def by_rule(name: Pass, x: Tensor, geometry: Geometry) -> Config:
    """The configuration that needs no measurement."""
    tiling = tile_plane(geometry, len(x), transposed=name == 'input')
    rows = len(x) * tiling.tiles
    if leaves_to_torch(geometry.kernel, is_channels_last(x)) or rows < FEWEST_ROWS:
        return TORCH
    if _can_be_direct(name, x, geometry) and (x.element_size() == 4 or rows <= FEW_ROWS):
        return DIRECT
    return _matrix_configs(name, tiling, rows, x.element_size())[0]


def candidates(name: Pass, x: Tensor, geometry: Geometry) -> list[Config]:
    """The configurations besides torch's that are worth a measurement, most promising first."""
    tiling = tile_plane(geometry, len(x), transposed=name == 'input')
    configs = _matrix_configs(name, tiling, len(x) * tiling.tiles, x.element_size())
    if _can_be_direct(name, x, geometry):
        configs.append(DIRECT)
    return configs


def _can_be_direct(name: Pass, x: Tensor, geometry: Geometry) -> bool:
    return name != 'weight' and is_channels_last(x) and max(geometry.kernel) <= WIDEST_DIRECT


def _matrix_configs(name: Pass, tiling: Tiling, rows: int, element_size: int) -> list[Config]:
    """Fastest on the card of the rules first."""
    if name == 'weight':
        if tiling.pixels <= 64:
            side = 64 if tiling.window <= 64 else 128
            return [Config('matrix', (side, 64, 32), 4, 3), Config('matrix', (side, 64, 64), 4, 2)]
        if element_size == 4:
            return [Config('matrix', (64, 64, 32), 4, 2), Config('matrix', (128, 64, 32), 8, 2)]
        narrow, wide = Config('matrix', (128, 64, 32), 4, 3), Config('matrix', (128, 128, 32), 8, 3)
        return [narrow, wide] if tiling.tiles == 1 else [wide, narrow]
    columns = 64 if tiling.pixels <= 64 else 128
    if element_size == 4:
        return [Config('matrix', (64, 64, 32), 4, 2), Config('matrix', (128, 64, 32), 8, 2)]
    small, medium, large = (
        Config('matrix', (block, columns, 32), warps, 3) for block, warps in ((64, 4), (128, 8), (256, 8))
    )
    if rows <= 64:
        return [small]
    if rows < 192:
        return [medium, small]
    return [large, medium, small]  # A band matrix serves all rows of a block.


def time_ms(run: Callable[[Config], object], config: Config, repeats: int = 7) -> float:
    """Median time of a pass on the current device in ms; infinity where it fails for want of shared memory."""
    try:
        for _ in range(2):  # The first compiles.
            run(config)
        torch.cuda.synchronize()
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
        torch.cuda._sleep(HEAD_START)  # The card waits until all runs are queued: a launch takes longer than a kernel.
        marks[0].record()
        for mark in marks[1:]:
            run(config)
            mark.record()
        torch.cuda.synchronize()
    except Exception as error:
        if config == TORCH or type(error).__name__ != 'OutOfResources':
            raise
        return float('inf')
    return statistics.median(a.elapsed_time(b) for a, b in itertools.pairwise(marks))
