"""Keep a resumed run equal to one that was never stopped: the newest checkpoint, and its place in the epoch."""

import os
from pathlib import Path

from mmengine.hooks import Hook


class MidEpochHook(Hook):
    """Note in each checkpoint how many batches of its epoch are done, and accumulate gradients within epochs only.

    The base of the hooks that resume a run in the middle of an epoch. Gradients that wait for the next epoch would be
    lost where a checkpoint lies between the two; so the last step of an epoch takes the gradients that there are.

    Attributes:
        done: Batches of the epoch that the checkpoint has seen, until that epoch begins.
        start: Iteration at which the current epoch has begun.
    """

    def __init__(self):
        self.done = 0
        self.start = 0

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write how many batches of the epoch are done."""
        meta = checkpoint['meta']
        meta['batches_done'] = meta['iter'] - self.start if meta['epoch'] == runner.epoch else 0

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Read how many batches of the epoch are done, if the run is resumed."""
        self.done = checkpoint.get('meta', {}).get('batches_done', 0) if runner._resume else 0

    def begin_epoch(self, runner) -> int:
        """Begin an epoch, or go on in one.

        Returns:
            How many batches of the epoch are done.
        """
        done, self.done = self.done, 0
        self.start = runner.iter - done
        if runner.optim_wrapper._accumulative_counts > 1:
            runner.optim_wrapper.initialize_count_status(runner.model, done, len(runner.train_loop.dataloader))
        return done


def latest_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """The newest ``epoch_*.pth`` or ``iter_*.pth`` of a work directory, by its number; None if there is none."""
    numbered = [
        (int(path.stem.partition('_')[2]), str(path))
        for path in Path(work_dir).glob('*.pth')
        if path.stem.partition('_')[0] in ('epoch', 'iter') and path.stem.partition('_')[2].isdigit()
    ]
    return max(numbered)[1] if numbered else None
