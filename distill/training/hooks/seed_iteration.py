"""Seed the random numbers of each training step."""

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from distill.base.seeding import seed_everything


@HOOKS.register_module()
class SeedIterationHook(Hook):
    """Seed all generators before each training step from (seed, iteration, rank).

    Drop path, and mixing by timm's own modes, are then the same in a resumed run as in an uninterrupted one, without
    the state of a generator in the checkpoint.
    """

    # Before every hook that could draw a random number.
    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Seed the generators of the CPU and of an accelerator."""
        seed_everything(runner.seed, runner.iter, runner.rank)
        if torch.cuda.is_available():
            torch.cuda.manual_seed(torch.initial_seed())
