"""A small student of a teacher's features: mixed precision, resume, cache, and the codec that the cache stores with."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from distill.gpu_check import distillation
from distill.gpu_check.rows import Check, Setting, distance, require
from distill.gpu_check.trainings import (
    EXACT,
    Trained,
    largest_difference,
    loss_difference,
    require_falling,
    run,
    stopped,
    without_tf32,
)

CONFIG = 'deit-mini_robust-resnet-tiny_features_shapes'
CODES = 1e-3
"""The share of codes that may differ by 1: a value half-way between two codes goes to either."""
DECODED = 1e-5
"""The most that embeddings may differ that are decoded from the same codes."""


class Runs(distillation.Runs):
    """The runs of the checks, on the images and with the teacher of `distillation`."""

    def get(self, name: str, amp: str | None = 'float16', **options: Any) -> Trained:
        """Train, or give back the run of that name."""
        if name not in self.made:
            settings = {
                'train_dataloader.batch_size': distillation.BATCH,
                'train_cfg.max_epochs': distillation.EPOCHS,
                'default_hooks.checkpoint.max_keep_ckpts': distillation.EPOCHS,
                **{f'model.teachers.0.{key}': value for key, value in self.teacher.items()},
                **options,
            }
            resume = settings.pop('resume', False)
            self.made[name] = run(
                CONFIG, self.data, self.setting.folder / name, self.setting, settings, amp, resume=resume
            )
        return self.made[name]


def checks(setting: Setting) -> list[Check]:
    """The checks, in the order of what they tell."""
    runs = Runs(setting)
    found: dict[str, Callable[[Runs], dict[str, Any]]] = {
        'AMP fp16: loss is finite and falls': lambda runs: require_falling(runs.get('fp16', **EXACT)),
        'AMP fp16: resumed = uninterrupted, bit for bit': resumes_exactly,
        'fp32: features from their cache = online': cached_is_online,
        'codec of grids: card = CPU': codec,
        'AMP bf16: loss is finite and falls': lambda runs: require_falling(runs.get('bf16', 'bfloat16')),
    }
    return [Check(name, functools.partial(function, runs)) for name, function in found.items()]


def resumes_exactly(runs: Runs) -> dict[str, Any]:
    """A run that is resumed after its second epoch ends with the weights of one that was not stopped."""
    whole = runs.get('fp16', **EXACT)
    stopped(whole, runs.setting.folder / 'resumed', 'epoch_2.pth')
    resumed = runs.get('resumed', **EXACT, resume=True)
    values = {
        'weights': largest_difference(resumed.weights(), whole.weights()),
        'losses': loss_difference(resumed.losses, whole.losses[-len(resumed.losses) :]),
    }
    return require(values, dict.fromkeys(values, 0.0))


def cached_is_online(runs: Runs) -> dict[str, Any]:
    """Without TF32; the cache keeps embeddings, and all components of grids, in half precision."""
    from distill.api.cache import cache_teacher

    path = runs.setting.folder / 'cache'
    options = {
        'train_dataloader.batch_size': distillation.BATCH,
        'train_cfg.max_epochs': distillation.EPOCHS,
        **{f'model.teachers.0.{key}': value for key, value in runs.teacher.items()},
    }
    with without_tf32():
        online = runs.get('fp32', None, **EXACT)
        cache_teacher(
            CONFIG, path, runs.data, progress=False, cfg_options=options,
            grid_dims=distillation.TEACHER['embed_dim'], grid_dtype='float16',
        )  # fmt: skip
        cached = runs.get('fp32 cached', None, **EXACT, **{'model.teachers.0.cache': str(path)})
    return require({'losses': loss_difference(cached.losses, online.losses)}, {'losses': 5e-2})


def codec(runs: Runs) -> dict[str, Any]:
    """Codes and what they are decoded to, of grids of one device on the other."""
    from distill.teachers.cache.grid_codec import DTYPES, GridCodec

    generator = torch.Generator().manual_seed(0)
    count, chs, dims = (2, 32, 8) if runs.setting.small else (64, 384, 64)
    mixing = torch.randn(chs, chs, generator=generator)
    tokens = torch.randn(4096, chs, generator=generator) @ mixing
    grid = torch.einsum('nchw,cd->ndhw', torch.randn(count, chs, 14, 14, generator=generator), mixing)
    values: dict[str, float] = {}
    device = runs.setting.device
    with without_tf32():
        for dtype in DTYPES:
            kept = GridCodec.fit(tokens, dims, dtype)
            here, there = kept.encode(grid), kept.on(device).encode(grid.to(device)).cpu()
            values[f'{dtype} codes'] = float((here.float() - there.float()).abs().gt(1e-3).float().mean())
            values[f'{dtype} largest'] = float((here.float() - there.float()).abs().max())
            both = kept.decode(here, 14, 14), kept.on(device).decode(here.to(device), 14, 14)
            values[f'{dtype} decoded'] = distance(both[1], both[0])
    limits = {f'{dtype} codes': CODES for dtype in DTYPES} | {f'{dtype} decoded': DECODED for dtype in DTYPES}
    return require(values, limits | {'int8 largest': 1.0})
