"""How fast the card trains: distillation against timm's task, and the four designs."""

import functools
import gc
from collections.abc import Callable
from typing import Any

import torch

from distill.gpu_check.rows import Check, Mismatch, Setting

BATCH = 256
TINY = dict(dims=(8, 16, 32, 64), depths=(1, 1, 1, 1))
"""Arguments that make the designs small enough for a check of the logic."""


def checks(setting: Setting) -> list[Check]:
    """What is measured, the most telling first; on the CPU the designs alone."""
    found: dict[str, Callable[[Setting], dict[str, Any]]] = {'four designs: full against robust': designs}
    if setting.device == 'cuda':
        found = {
            "distillation: timm's task": functools.partial(variant, name='peer'),
            'distillation: online': functools.partial(variant, name='online'),
            'distillation: cached': functools.partial(variant, name='cached'),
            "a step with torch's convolutions and with ours": convolutions,
            **found,
            "distillation, compiled: timm's task": functools.partial(variant, name='peer compiled'),
            'distillation, compiled: online': functools.partial(variant, name='online compiled'),
            'distillation, compiled: cached': functools.partial(variant, name='cached compiled'),
            "distillation, CUDA graphs: timm's task": functools.partial(variant, name='peer graphs'),
            'distillation, CUDA graphs: online': functools.partial(variant, name='online graphs'),
            'distillation, CUDA graphs: cached': functools.partial(variant, name='cached graphs'),
        }
    return [Check(name, functools.partial(function, setting)) for name, function in found.items()]


def settings_of(setting: Setting, name: str) -> Any:
    """What all variants of a measurement share: DeiT-S teaches Robust-ResNet-DW-S at 224²."""
    from distill.benchmarks.distillation import Settings

    return Settings(setting.folder / name, BATCH, torch.get_num_threads())


def told(result: dict[str, Any], table: str) -> dict[str, Any]:
    """A row of a measurement: its numbers, and its table in the log."""
    print(table, flush=True)
    gc.collect()
    return result | {'table': table.splitlines()}


def require_all(result: dict[str, Any], table: str) -> dict[str, Any]:
    """The row of a measurement of variants, all of which must have run."""
    failed = {name: row['error'] for name, row in result['variants'].items() if 'error' in row}
    row = told(result, table)
    if failed:
        raise Mismatch('; '.join(f'{name}: {error}' for name, error in failed.items()), row)
    return row


def variant(setting: Setting, name: str) -> dict[str, Any]:
    """bf16, channels_last, fused AdamW; a variant a row, so that a row is there as soon as it is measured.

    The variants have one process, data and cache, and the card to themselves one after the other.
    """
    from distill.benchmarks.on_card import benchmark_on_card, card_table

    settings = settings_of(setting, 'distillation')
    result = benchmark_on_card(settings, [name], rounds=2, prepared=(settings.folder / 'cache').is_dir())
    row = require_all(result, card_table(result))
    numbers = {key: value for key, value in result['variants'][name].items() if isinstance(value, float)}
    return {**numbers, **row}


def convolutions(setting: Setting) -> dict[str, Any]:
    """Forward and backward of a Robust-ResNet-DW-S with torch's depthwise convolutions and with this project's."""
    from distill.benchmarks.depthwise_cuda import measure_step

    found = measure_step(torch.device('cuda'), float('inf'))
    return {f'{way} ms': row['ms'] for way, row in found.items()} | found


def designs(setting: Setting) -> dict[str, Any]:
    """What fewer norms and activations are worth."""
    from distill.benchmarks.designs import benchmark_designs, design_table

    sizes: dict[str, Any] = dict(batch_size=128, rounds=2)
    if setting.small:
        sizes = dict(batch_size=4, size_px=64, rounds=1, steps=1, model=TINY)
    result = benchmark_designs(setting.device, **sizes)
    rows = result['designs'].items()
    flat = {f'{design} {key}': row[key] for design, row in rows for key in ('faster_pct', 'lighter_pct')}
    return told(flat | result, design_table(result))
