"""What feeds a card and what it gives: loading, decoding, inference, and the largest batch."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from distill.benchmarks.forward import NETWORKS, benchmark_forward, forward_table
from distill.gpu_check.rows import Check, Setting
from distill.gpu_check.speed import BATCH, settings_of, told


def checks(setting: Setting) -> list[Check]:
    """What is measured, the most telling first; on the CPU the loader and the smallest network."""
    found: dict[str, Callable[[Setting], dict[str, Any]]] = {'loader processes': loading}
    names = NETWORKS if setting.device == 'cuda' else NETWORKS[:1]
    found |= {f'inference: {name}': functools.partial(inference, name=name) for name in names}
    found |= {'decoding': decoding, 'loader processes, WebDataset shards': shards}
    if setting.device == 'cuda':
        found |= {'distillation: largest batch': fitting}
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


def shards(setting: Setting) -> dict[str, Any]:
    """The same out of WebDataset shards, with as many processes as there are processors."""
    from distill.benchmarks.loading import benchmark_loading, loading_table

    sizes: dict[str, Any] = dict(workers=(16,), seconds=2.5)
    if setting.small:
        sizes = dict(workers=(2,), seconds=0.5, images=16, batch_size=4, side_px=64)
    result = benchmark_loading(setting.folder / 'loading', form='wds', **sizes)
    flat = {f'{count} processes': speed for count, speed in result['images_per_s'].items()}
    return told(flat | result, loading_table(result))


def decoding(setting: Setting) -> dict[str, Any]:
    """JPEG by each decoder in one thread, and by torchvision on the card, in batches."""
    from distill.benchmarks.loading import SIDE_PX, decoding_speeds
    from distill.synthetic.imagenet_like import write_imagenet_like

    folder, count = setting.folder / 'decoding', 10 if setting.small else 128
    write_imagenet_like(folder, size=SIDE_PX, train=count, val=0, shifted=0, workers=torch.get_num_threads())
    return decoding_speeds(sorted((folder / 'train').rglob('*.jp*g')), setting.device)


def inference(setting: Setting, name: str) -> dict[str, Any]:
    """Forward passes of a batch and of one image; of wide convolutions with this project's kernels and with torch's."""
    sizes: dict[str, Any] = dict(batch_size=BATCH, rounds=10, singles=10)
    if setting.small:
        sizes = dict(batch_size=2, rounds=1, singles=1, size_px=32)
    result = benchmark_forward([name], setting.device, **sizes)
    flat = {f'images_per_s, {row["convolutions"]}': row['images_per_s'] for row in result['rows']}
    return told(flat | result, forward_table(result))


def fitting(setting: Setting) -> dict[str, Any]:
    """The largest batch, by a straight line through the peaks of two small ones."""
    from distill.benchmarks.on_card import largest_batch

    return largest_batch(settings_of(setting, 'fitting'))
