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
    """What is measured; on the CPU the designs alone."""
    found: dict[str, Callable[[Setting], dict[str, Any]]] = {'four designs: full against robust': designs}
    if setting.device == 'cuda':
        found = {'distillation: timm, online, cached': eager, **found, 'distillation, compiled': compiled}
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


def eager(setting: Setting) -> dict[str, Any]:
    """bf16, channels_last, fused AdamW; not compiled."""
    from distill.benchmarks.on_card import EAGER, benchmark_on_card, card_table

    result = benchmark_on_card(settings_of(setting, 'eager'), EAGER)
    return require_all(result, card_table(result))


def require_all(result: dict[str, Any], table: str) -> dict[str, Any]:
    """The row of a measurement of variants, all of which must have run."""
    failed = {name: row['error'] for name, row in result['variants'].items() if 'error' in row}
    row = told(result, table)
    if failed:
        raise Mismatch('; '.join(f'{name}: {error}' for name, error in failed.items()), row)
    return row


def compiled(setting: Setting) -> dict[str, Any]:
    """The same, compiled; timm's task as timm compiles it."""
    from distill.benchmarks.on_card import COMPILED, benchmark_on_card, card_table

    result = benchmark_on_card(settings_of(setting, 'compiled'), COMPILED)
    return require_all(result, card_table(result))


def designs(setting: Setting) -> dict[str, Any]:
    """What fewer norms and activations are worth."""
    from distill.benchmarks.designs import benchmark_designs, design_table

    sizes: dict[str, Any] = dict(batch_size=128)
    if setting.small:
        sizes = dict(batch_size=4, size_px=64, rounds=1, steps=1, model=TINY)
    result = benchmark_designs(setting.device, **sizes)
    flat = {f'{design} faster_pct': row['faster_pct'] for design, row in result['designs'].items()}
    return told(flat | result, design_table(result))
