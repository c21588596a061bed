"""Which way the weight gradient of a wide depthwise convolution is computed on a CPU: measured once per shape.

No way is the fastest on every processor. Fp32, 16 images of 384 × 14 × 14, a kernel of 11, ``channels_last``, one
thread, in ms: with AVX-512 torch's own way takes 53, the convolution 8, the convolution of padded maps 29; with AVX2
35, 77 and 11. oneDNN's depthwise routine takes paddings up to a limit that differs between the two, and beyond it falls
back on a slow one.
"""

import os
import time
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, distributed

Way = Literal['torch', 'convolution', 'padded']
WAYS: tuple[Way, ...] = ('torch', 'convolution', 'padded')
"""torch's own; a depthwise convolution that pads by itself; one of maps that are padded before."""
VARIABLE = 'ROBUST_BACKBONES_CPU_DEPTHWISE'
"""Environment variable: ``measure`` (the default), ``rule``, or the name of a way, which is then taken everywhere."""
SMALLEST_MAP = 3
"""Side of an output map from which on the convolutions are faster than oneDNN's gradient, by the rule."""
WIDEST_PADDING = 4
"""Padding up to which oneDNN's depthwise routine for AVX2 is taken."""
MARGIN = 0.1
"""Share of the time that a way must save to be taken in place of the rule's: two runs then rarely differ."""
LEAST_WORK = 10_000_000
"""Multiply-adds of a gradient from which on it is timed, about a millisecond: a shorter time tells more of the moment
than of the way, and small models are the same to the bit whenever they are trained."""
ROUNDS = 3
"""How often each way is timed; the least time counts."""
_CHOSEN: dict[str, Way] = {}


def setting() -> str:
    """What `VARIABLE` says.

    Raises:
        ValueError: It is unknown.
    """
    said = os.environ.get(VARIABLE, 'measure')
    choices = ('measure', 'rule', *WAYS)
    if said not in choices:
        raise ValueError(f"{VARIABLE} is '{said}'; choose from {', '.join(choices)}")
    return said


def choose(x: Tensor, grad: Tensor, kernel: tuple[int, int], geometry: tuple, compute: Callable[[Way], Tensor]) -> Way:
    """Choose the way of one weight gradient.

    Measured once a process for each shape, memory format and number of threads from `LEAST_WORK` on, unless `VARIABLE`
    or torch's switch for deterministic algorithms says otherwise. Of several processes of a
    run each would measure another thing: they go by the rule.

    Args:
        x: Input of the convolution [B, C, H, W].
        grad: Gradient of its output [B, C, H', W'].
        kernel: Height and width of the kernel.
        geometry: Stride, padding and dilation of the convolution.
        compute: Computes the gradient in a way, to be timed.
    """
    said = setting()
    if said in WAYS:
        return said  # type: ignore[return-value]
    usual = by_rule(grad, geometry[1])
    is_small = grad.numel() * kernel[0] * kernel[1] < LEAST_WORK
    is_fixed = said == 'rule' or is_small or torch.are_deterministic_algorithms_enabled()
    if is_fixed or torch.compiler.is_compiling() or (distributed.is_available() and distributed.is_initialized()):
        return usual
    key = name_of(x, kernel, geometry)
    if key not in _CHOSEN:
        _CHOSEN[key] = measure(usual, compute)
    return _CHOSEN[key]


def by_rule(grad: Tensor, padding: tuple[int, int]) -> Way:
    """The way that needs no measurement."""
    if min(grad.shape[2:]) < SMALLEST_MAP:
        return 'torch'
    has_avx512 = torch.backends.cpu.get_cpu_capability() == 'AVX512'
    return 'convolution' if has_avx512 or max(padding) <= WIDEST_PADDING else 'padded'


def name_of(x: Tensor, kernel: tuple[int, int], geometry: tuple) -> str:
    """What a way is chosen for, as checkpoints and logs name it."""
    stride, padding, dilation = ('x'.join(map(str, pair)) for pair in geometry)
    shape = 'x'.join(map(str, x.shape))
    layout = 'channels_last' if x.is_contiguous(memory_format=torch.channels_last) else 'planes'
    dtype = str(x.dtype).removeprefix('torch.')
    place = f'{torch.get_num_threads()} threads {torch.backends.cpu.get_cpu_capability()}'
    return f'{shape} k{kernel[0]}x{kernel[1]} s{stride} p{padding} d{dilation} {dtype} {layout} {place}'


def measure(usual: Way, compute: Callable[[Way], Tensor]) -> Way:
    """Time the ways in turns.

    Args:
        usual: The way to take unless another saves at least `MARGIN`.
        compute: Computes the gradient in a way.
    """
    times = dict.fromkeys(WAYS, float('inf'))
    for _ in range(ROUNDS):
        for way in WAYS:
            start = time.perf_counter()
            compute(way)
            times[way] = min(times[way], time.perf_counter() - start)
    best = min(WAYS, key=times.__getitem__)
    return best if times[best] < (1 - MARGIN) * times[usual] else usual


def chosen() -> dict[str, str]:
    """The ways that this process has chosen, by what they were chosen for; for checkpoints and logs."""
    return dict(_CHOSEN)


def take_up(ways: Mapping[str, str]) -> None:
    """Go on with the ways of another process, so that a resumed run keeps its bits; unknown ones are left out."""
    _CHOSEN.update({key: way for key, way in ways.items() if way in WAYS})  # type: ignore[misc]
