"""How fast the card trains: distillation against timm's task, the four designs, loading, inference."""

import functools
import gc
from collections.abc import Callable
from typing import Any

import torch

from distill.gpu_check.rows import Check, Mismatch, Setting

BATCH = 256
NETWORKS = (
    'robust_resnet_dw_small',
    'robust_resnet_inverted_dw_small',
    'robust_resnet_up_inverted_dw_small',
    'robust_resnet_down_inverted_dw_small',
    'convnext_tiny',
    'deit_small_patch16_224',
)
TINY = dict(dims=(8, 16, 32, 64), depths=(1, 1, 1, 1))
"""Arguments that make the designs small enough for a check of the logic."""


def checks(setting: Setting) -> list[Check]:
    """What is measured, the shortest first: compiling takes longest."""
    found: dict[str, Callable[[Setting], dict[str, Any]]] = {
        'four designs: full against robust': designs,
        'loader processes': loading,
    }
    if setting.device == 'cuda':
        found = {
            'distillation: timm, online, cached': eager,
            **found,
            'distillation: largest batch': fitting,
            'inference': inference,
            'decoding on the card': decoding,
            'distillation, compiled': compiled,
            'distillation, CUDA graphs': graphs,
        }
    return [Check(name, functools.partial(function, setting)) for name, function in found.items()]


def _settings(setting: Setting, name: str) -> Any:
    from distill.benchmarks.distillation import Settings

    return Settings(setting.folder / name, BATCH, torch.get_num_threads())


def _told(result: dict[str, Any], table: str) -> dict[str, Any]:
    """A row of a measurement: its numbers, and its table in the log."""
    print(table, flush=True)
    gc.collect()
    return result | {'table': table.splitlines()}


def eager(setting: Setting) -> dict[str, Any]:
    """bf16, channels_last, fused AdamW; not compiled."""
    from distill.benchmarks.on_card import EAGER, benchmark_on_card, card_table

    result = benchmark_on_card(_settings(setting, 'eager'), EAGER)
    return _require_all(result, card_table(result))


def _require_all(result: dict[str, Any], table: str) -> dict[str, Any]:
    failed = {name: row['error'] for name, row in result['variants'].items() if 'error' in row}
    told = _told(result, table)
    if failed:
        raise Mismatch('; '.join(f'{name}: {error}' for name, error in failed.items()), told)
    return told


def compiled(setting: Setting) -> dict[str, Any]:
    """The same, compiled; timm's task as timm compiles it."""
    from distill.benchmarks.on_card import COMPILED, benchmark_on_card, card_table

    result = benchmark_on_card(_settings(setting, 'compiled'), COMPILED)
    return _require_all(result, card_table(result))


def graphs(setting: Setting) -> dict[str, Any]:
    """From the cache, compiled with CUDA graphs."""
    from distill.benchmarks.on_card import card_table, measure, own, prepare, synthetic_batch

    settings = _settings(setting, 'graphs')
    prepare(settings, 64)
    batch = synthetic_batch(settings, 64)
    cache = dict(cache=str(settings.folder / 'cache'))
    options = dict(mode='reduce-overhead')
    rows = measure({'cached, graphs': lambda: own(settings, batch, cache, options)}, BATCH, peer='cached, graphs')
    result = {'variants': rows}
    return _require_all(result, card_table(result))


def fitting(setting: Setting) -> dict[str, Any]:
    """The largest batch, by a straight line through the peaks of two small ones."""
    from distill.benchmarks.on_card import largest_batch

    return largest_batch(_settings(setting, 'fitting'))


def inference(setting: Setting) -> dict[str, Any]:
    """Forward passes of a batch."""
    from distill.benchmarks.on_card import inference_speed

    return {'batch_size': BATCH, **inference_speed(NETWORKS, BATCH)}


def designs(setting: Setting) -> dict[str, Any]:
    """What fewer norms and activations are worth."""
    from distill.benchmarks.designs import benchmark_designs, design_table

    sizes: dict[str, Any] = dict(batch_size=128)
    if setting.small:
        sizes = dict(batch_size=4, size_px=64, rounds=1, steps=1, model=TINY)
    result = benchmark_designs(setting.device, **sizes)
    flat = {f'{design} faster_pct': row['faster_pct'] for design, row in result['designs'].items()}
    return _told(flat | result, design_table(result))


def loading(setting: Setting) -> dict[str, Any]:
    """Decoding and augmenting, by the number of loader processes."""
    from distill.benchmarks.loading import benchmark_loading, loading_table

    sizes: dict[str, Any] = {}
    if setting.small:
        sizes = dict(workers=(1, 2), seconds=0.5, images=16, batch_size=4, side_px=64)
    result = benchmark_loading(setting.folder / 'loading', **sizes)
    flat = {f'{count} processes': speed for count, speed in result['images_per_s'].items()}
    return _told(flat | result, loading_table(result))


def decoding(setting: Setting) -> dict[str, Any]:
    """JPEG by torchvision on the card, in batches, beside Pillow on one processor."""
    import time

    from torchvision.io import decode_jpeg, read_file

    from distill.base.images import read_image
    from distill.benchmarks.loading import SIDE_PX
    from distill.synthetic.imagenet_like import write_imagenet_like

    folder = setting.folder / 'loading' / 'images'
    if not folder.is_dir():
        write_imagenet_like(folder, size=SIDE_PX, train=128, val=0, shifted=0, workers=torch.get_num_threads())
    paths = sorted((folder / 'train').rglob('*.jp*g'))[:128]
    data = [read_file(str(path)) for path in paths]
    speeds = {}
    for name, decode in {
        'card': lambda: decode_jpeg(data, device='cuda'),
        'pillow': lambda: [read_image(path) for path in paths],
    }.items():
        decode()
        torch.cuda.synchronize()
        start = time.perf_counter()
        decode()
        torch.cuda.synchronize()
        speeds[name] = len(paths) / (time.perf_counter() - start)
    return speeds
