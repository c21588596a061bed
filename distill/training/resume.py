"""Keep a resumed run equal to one that was never stopped."""

import os
from pathlib import Path

from mmengine.hooks import Hook


class MidEpochHook(Hook):
    """Know where in its epoch a checkpoint was written, and have gradients accumulate within an epoch only.

    The last step of an epoch takes what there is: a remainder that waits for the next epoch would be lost with a
    checkpoint between them.
    """

    def __init__(self):
        self.done = 0
        self.start = 0

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Note how many batches of its epoch a checkpoint comes after."""
        meta = checkpoint['meta']
        meta['batches_done'] = meta['iter'] - self.start if meta['epoch'] == runner.epoch else 0

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Read it again."""
        self.done = checkpoint.get('meta', {}).get('batches_done', 0) if runner._resume else 0

    def begin_epoch(self, runner) -> int:
        """Begin an epoch, or go on in it; returns how many of its batches are done."""
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
