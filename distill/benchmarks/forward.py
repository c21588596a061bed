"""Speed, latency and memory of forward passes in torch itself: on a card in bf16, on a processor in single precision.

`distill.benchmarks.inference` measures the artefacts of engines; this is what a model does before it is exported.
"""

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

import backbones  # noqa: F401  registers models
from backbones.layers.depthwise import DepthwiseConv2d, speed_up_depthwise
from distill.benchmarks.turns import peak_mib

NETWORKS = (
    'robust_resnet_dw_small',
    'robust_resnet_inverted_dw_small',
    'robust_resnet_up_inverted_dw_small',
    'robust_resnet_down_inverted_dw_small',
    'convnext_tiny',
    'deit_small_patch16_224',
)
WARM_UP = 3
"""Passes before the first that counts: they choose kernels and allocate."""


def benchmark_forward(
    names: Sequence[str],
    device: str,
    batch_size: int,
    rounds: int = 10,
    singles: int = 5,
    size_px: int | None = None,
    kwargs: dict[str, Any] | None = None,
    track: Callable[[Iterable], Iterable] = iter,
) -> dict:
    """Measure forward passes of models with random weights, in `channels_last`.

    Each model has the device to itself. One with wide depthwise convolutions is measured with this project's kernels
    and with torch's, whose rounds take turns.

    Args:
        names: timm's names.
        device: ``cuda`` or ``cpu``.
        batch_size: Images of a pass that counts for images/s; the latency is that of passes of one image.
        rounds: Passes of a batch, of which the median counts.
        singles: Passes of one image in each round.
        size_px: Side of the images; None for each model's own.
        kwargs: Further arguments of ``timm.create_model``.
        track: Called with the names, which it passes on with a progress bar.

    Returns:
        ``rows``, each with ``model``, ``convolutions``, ``images_per_s``, ``latency_ms`` (``p50``, ``p95``),
        ``peak_mib`` and ``ratio`` (to torch's convolutions), or with ``error``; and ``settings``.
    """
    dtype = torch.bfloat16 if device == 'cuda' else torch.float32
    benchmarks, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    rows = []
    try:
        for name in track(names):
            try:
                rows += _rows(name, device, dtype, batch_size, rounds, singles, size_px, kwargs or {})
            except torch.OutOfMemoryError as error:
                rows.append({'model': name, 'error': str(error).splitlines()[0][:200]})
            _free(device)
    finally:
        torch.backends.cudnn.benchmark = benchmarks
    about = dict(batch_size=batch_size, size_px=size_px, dtype=str(dtype).removeprefix('torch.'), rounds=rounds)
    about |= dict(memory_format='channels_last', torch=torch.__version__, timm=timm.__version__)
    about |= dict(device=torch.cuda.get_device_name() if device == 'cuda' else 'cpu')
    return {'rows': rows, 'settings': about}


def _rows(
    name: str, device: str, dtype: torch.dtype, batch_size: int, rounds: int, singles: int, size_px: int | None,
    kwargs: dict[str, Any],
) -> list[dict]:  # fmt: skip
    """The row of a model, or its two rows."""
    torch.manual_seed(0)
    network = timm.create_model(name, **kwargs)
    height, width = (size_px, size_px) if size_px else network.default_cfg['input_size'][-2:]
    ways = {'torch': network}
    fast = speed_up_depthwise(timm.create_model(name, **kwargs))
    if any(isinstance(module, DepthwiseConv2d) for module in fast.modules()):
        ways['ours'] = fast
    for way, one in ways.items():
        ways[way] = one.to(device, dtype).to(memory_format=torch.channels_last).eval()
    images = torch.randn(batch_size, 3, height, width, device=device, dtype=dtype)
    images = images.to(memory_format=torch.channels_last)
    times: dict[str, list[float]] = {way: [] for way in ways}
    latencies: dict[str, list[float]] = {way: [] for way in ways}
    peaks: dict[str, float] = {}
    with torch.inference_mode():
        for way, one in ways.items():
            peaks[way] = _peak(one, images, device)
        for _ in range(rounds):
            for way, one in ways.items():
                times[way].append(_time(one, images, device))
                latencies[way] += [_time(one, images[:1], device) for _ in range(singles)]
    best = {way: statistics.median(values) for way, values in times.items()}
    return [
        {
            'model': name,
            'convolutions': way,
            'images_per_s': batch_size / best[way],
            'latency_ms': {f'p{q}': 1e3 * _quantile(latencies[way], q / 100) for q in (50, 95)},
            'peak_mib': peaks[way],
            'ratio': best['torch'] / best[way],
        }
        for way in ways
    ]


def _peak(network: nn.Module, images: Tensor, device: str) -> float:
    """Warm up; returns the most memory in MiB: on a card of the network and a pass, else of the process so far."""
    if device != 'cuda':
        for _ in range(WARM_UP):
            network(images)
            network(images[:1])
        return peak_mib()
    others = torch.cuda.memory_allocated() - _size(network) - images.numel() * images.element_size()
    for _ in range(WARM_UP):
        network(images[:1])
    for _ in range(WARM_UP):
        torch.cuda.reset_peak_memory_stats()  # Choosing a kernel takes memory that later passes do not.
        network(images)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - others) / 2**20


def _size(network: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in network.state_dict().values())


def _time(network: nn.Module, images: Tensor, device: str) -> float:
    """Time of a pass in s."""
    start = time.perf_counter()
    network(images)
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that the share of all do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _free(device: str) -> None:
    gc.collect()
    if device == 'cuda':
        torch.cuda.empty_cache()


def forward_table(result: dict) -> str:
    """The result of `benchmark_forward` as a table for people."""
    width = max(len(row['model']) for row in result['rows']) + 2
    lines = [f'{"":<{width}}{"kernels":<9}{"images/s":>10}{"ratio":>7}{"p50 ms":>9}{"p95 ms":>9}{"peak MiB":>10}']
    for row in result['rows']:
        if 'error' in row:
            lines.append(f'{row["model"]:<{width}}{row["error"]}')
            continue
        latency = row['latency_ms']
        line = f'{row["model"]:<{width}}{row["convolutions"]:<9}{row["images_per_s"]:>10.1f}{row["ratio"]:>7.2f}'
        lines.append(f'{line}{latency["p50"]:>9.2f}{latency["p95"]:>9.2f}{row["peak_mib"]:>10.0f}')
    about = result['settings']
    lines.append(f'{about["device"]}, {about["dtype"]}, {about["batch_size"]} images; latency of one image')
    return '\n'.join(lines)
