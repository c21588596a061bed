"""Which way a convolution or a gradient is computed: by rules, or by measurement once per shape.

Measured as torch measures cuDNN's ways: where ``torch.backends.cudnn.benchmark`` is on and determinism is not asked
for, each shape is timed once in a process. Two processes may then choose differently, and differ in the last bits.
Otherwise fixed rules choose, so that a run that is resumed keeps its bits.
"""

import itertools
import statistics
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from backbones.layers.depthwise.launch import Config, can_run, fits, is_channels_last
from backbones.layers.depthwise.tiling import Geometry, Tiling, tile_plane

Pass = Literal['forward', 'input', 'weight']
TORCH = Config('torch')
NARROWEST_KERNEL = 5
"""Side of a kernel from which on the rules take the kernels of this package."""
FEWEST_ROWS = 48
"""Samples times tiles from which on they do: a matrix product has at least 64 rows."""
WIDEST_DIRECT = 13
"""Side of a kernel up to which its rows are unrolled."""
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
    if not (x.is_cuda and torch.backends.cudnn.benchmark) or _is_deterministic():
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


def by_rule(name: Pass, x: Tensor, geometry: Geometry) -> Config:
    """The configuration that needs no measurement."""
    tiling = tile_plane(geometry, len(x), transposed=name == 'input')
    if max(geometry.kernel) < NARROWEST_KERNEL or len(x) * tiling.tiles < FEWEST_ROWS:
        return TORCH
    return _matrix_configs(name, tiling, len(x) * tiling.tiles, x.element_size())[0]


def candidates(name: Pass, x: Tensor, geometry: Geometry) -> list[Config]:
    """The configurations besides torch's that are worth a measurement, most promising first."""
    tiling = tile_plane(geometry, len(x), transposed=name == 'input')
    configs = _matrix_configs(name, tiling, len(x) * tiling.tiles, x.element_size())
    if name != 'weight' and is_channels_last(x) and max(geometry.kernel) <= WIDEST_DIRECT:
        configs.append(Config('direct', (16, 64), 4, 1))
    return configs


def _matrix_configs(name: Pass, tiling: Tiling, rows: int, element_size: int) -> list[Config]:
    if name == 'weight':
        if tiling.pixels <= 64:
            side = 64 if tiling.window <= 64 else 128
            return [Config('matrix', (side, 64, 32), 4, 3), Config('matrix', (side, 64, 64), 4, 2)]
        if element_size == 4:
            return [Config('matrix', (64, 64, 32), 4, 2), Config('matrix', (128, 64, 32), 8, 2)]
        return [Config('matrix', (128, 128, 32), 8, 3), Config('matrix', (128, 64, 32), 4, 3)]
    columns = 64 if tiling.pixels <= 64 else 128
    if element_size == 4:
        return [Config('matrix', (128, 64, 32), 8, 2), Config('matrix', (64, 64, 32), 4, 2)]
    small, medium, large = (
        Config('matrix', (block, columns, 32), warps, 3) for block, warps in ((64, 4), (128, 8), (256, 8))
    )
    if rows <= 64:
        return [small]
    if rows < 192:
        return [medium, small]
    # A band matrix serves all rows of a block. Cut planes need more registers, of which the large block has none left.
    return [large, medium, small] if tiling.tiles == 1 else [medium, large, small]


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
