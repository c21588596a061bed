"""Random numbers of a step from (seed, iteration, rank)."""

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from distill.base.seeding import seed_everything


@HOOKS.register_module()
class SeedIterationHook(Hook):
    """Seed all generators before each training step from (seed, iteration, rank).

    Drop path, mixing and erasing then are the same in a resumed run as in an uninterrupted one, with no generator
    state in the checkpoint.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Seed CPU and accelerator."""
        seed_everything(runner.seed, runner.iter, runner.rank)
        if torch.cuda.is_available():
            torch.cuda.manual_seed(torch.initial_seed())
