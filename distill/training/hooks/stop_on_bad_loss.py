"""Stop a run whose loss or weights are no longer finite."""

import math

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from distill.training.resume import latest_checkpoint


@HOOKS.register_module()
class StopOnBadLossHook(Hook):
    """Stop when a loss is NaN or infinite, and never save a checkpoint whose weights are.

    The losses are read from the log, to which mmengine writes them after each step, so that the device is not waited
    for once more. The step has changed the weights by then, but they are not saved. A step can also ruin the weights
    by its gradient while its loss is finite; therefore the weights of a checkpoint are checked before it is written.
    """

    # After EMAHook, which adds its average to a checkpoint, and before a hook that writes.
    priority = 'BELOW_NORMAL'

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        """Check the losses of the step.

        Raises:
            ValueError: One is NaN or infinite.
        """
        values = {key: runner.message_hub.get_scalar(f'train/{key}').current() for key in outputs or {}}
        bad = [f'{key} is {value}' for key, value in values.items() if not math.isfinite(value) and key != 'loss']
        if bad or not math.isfinite(values.get('loss', 0.0)):
            what = ', '.join(bad) or f'loss is {values["loss"]}'
            self.stop(runner, what, runner.iter + 1, runner.epoch + 1)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Check the weights, and their average if there is one.

        Raises:
            ValueError: One is NaN or infinite.
        """
        for part in ('state_dict', 'ema_state_dict'):
            weights = {key: value for key, value in checkpoint.get(part, {}).items() if value.is_floating_point()}
            if not weights:
                continue
            finite = torch.stack([value.isfinite().all() for value in weights.values()]).tolist()
            bad = [key for key, is_finite in zip(weights, finite, strict=True) if not is_finite]
            if bad:
                what = f"{bad[0]} in the new checkpoint's {part} is not finite"
                self.stop(runner, what, checkpoint['meta']['iter'], checkpoint['meta']['epoch'])

    @staticmethod
    def stop(runner, what: str, step: int, epoch: int) -> None:
        """Raise the error that names the bad value, the step and the last good checkpoint.

        Args:
            runner: The runner.
            what: The value and its name.
            step: Number of the step, from 1.
            epoch: Number of the epoch, from 1.
        """
        good = latest_checkpoint(runner.work_dir) or (runner._load_from if runner._resume else None)
        raise ValueError(
            f'{what} at step {step} (epoch {epoch}); '
            + (f'the last good checkpoint is {good}' if good else 'there is no checkpoint yet')
            + '; lower the learning rate or clip gradients (optim_wrapper.clip_grad)'
        )
