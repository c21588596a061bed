"""What feeds a card and what it gives: loading, decoding, inference, the largest batch, and steps as CUDA graphs."""

import functools
import time
from collections.abc import Callable
from typing import Any

import torch

from distill.gpu_check.rows import Check, Setting
from distill.gpu_check.speed import BATCH, require_all, settings_of, told

NETWORKS = (
    'robust_resnet_dw_small',
    'robust_resnet_inverted_dw_small',
    'robust_resnet_up_inverted_dw_small',
    'robust_resnet_down_inverted_dw_small',
    'convnext_tiny',
    'deit_small_patch16_224',
)


def checks(setting: Setting) -> list[Check]:
    """What is measured, the most telling first; on the CPU the loader alone."""
    found: dict[str, Callable[[Setting], dict[str, Any]]] = {'loader processes': loading}
    if setting.device == 'cuda':
        found |= {f'inference: {name}': functools.partial(inference, name=name) for name in NETWORKS}
        found |= {
            'decoding on the card': decoding,
            'distillation: largest batch': fitting,
            'distillation, CUDA graphs': graphs,
        }
    return [Check(name, functools.partial(function, setting)) for name, function in found.items()]


def loading(setting: Setting) -> dict[str, Any]:
    """Decoding and augmenting, by the number of loader processes."""
    from distill.benchmarks.loading import benchmark_loading, loading_table

    sizes: dict[str, Any] = dict(workers=(1, 4, 8, 16), seconds=2.5)
    if setting.small:
        sizes = dict(workers=(1, 2), seconds=0.5, images=16, batch_size=4, side_px=64)
    result = benchmark_loading(setting.folder / 'loading', **sizes)
    flat = {f'{count} processes': speed for count, speed in result['images_per_s'].items()}
    return told(flat | result, loading_table(result))


def decoding(setting: Setting) -> dict[str, Any]:
    """JPEG by torchvision on the card, in batches, beside Pillow on one processor."""
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


def inference(setting: Setting, name: str) -> dict[str, Any]:
    """Forward passes of a batch; of wide convolutions with this project's kernels and with torch's."""
    from distill.benchmarks.on_card import inference_speed

    row = {'batch_size': BATCH, 'images_per_s': inference_speed([name], BATCH)[name]}
    if name.startswith('robust'):
        row["images_per_s, torch's convolutions"] = inference_speed([name], BATCH, fast=False)[name]
    return row


def fitting(setting: Setting) -> dict[str, Any]:
    """The largest batch, by a straight line through the peaks of two small ones."""
    from distill.benchmarks.on_card import largest_batch

    return largest_batch(settings_of(setting, 'fitting'))


def graphs(setting: Setting) -> dict[str, Any]:
    """From the cache, compiled with CUDA graphs."""
    from distill.benchmarks.on_card import card_table, measure, own, prepare, synthetic_batch

    settings = settings_of(setting, 'graphs')
    prepare(settings, 64)
    batch = synthetic_batch(settings, 64)
    cache = dict(cache=str(settings.folder / 'cache'))
    options = dict(mode='reduce-overhead')
    rows = measure({'cached, graphs': lambda: own(settings, batch, cache, options)}, BATCH, peer='cached, graphs')
    result = {'variants': rows}
    return require_all(result, card_table(result))
