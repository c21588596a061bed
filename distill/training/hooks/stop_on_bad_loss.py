"""Stop a run whose loss or weights are no longer finite."""

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import HOOKS
from torch import Tensor, distributed

from distill.base.processes import default_device, rank_and_count, unwrap
from distill.training.resume import latest_checkpoint


@HOOKS.register_module()
class StopOnBadLossHook(Hook):
    """Stop when a loss is NaN or infinite, and never save a checkpoint whose weights are.

    The losses are read from the log, to which mmengine writes them after each step, so that the device is not waited
    for once more. The step has changed the weights by then, but they are not saved. A step can also ruin the weights
    by its gradient while its loss is finite; therefore the weights of a checkpoint are checked before it is written.
    In mixed precision the loss scaler leaves out a step whose gradients are not finite, which is no error; a loss that
    is bad in several steps in a row is one.

    Of several processes, each has a loss of its own. They agree after each step, so that all of them stop at the same
    step with the same message; one that stopped alone would leave the others waiting for its gradients.

    Args:
        patience: Steps in a row with a bad loss that a loss scaler may leave out.
    """

    # After EMAHook, which adds its average to a checkpoint, and before a hook that writes.
    priority = 'BELOW_NORMAL'

    def __init__(self, patience: int = 5):
        self.patience = patience
        self.bad_steps = 0
        self.masks: set[str] = set()

    def before_train(self, runner) -> None:
        """Find the buffers that are infinite by design, such as masks."""
        bad = not_finite(unwrap(runner.model).named_buffers())
        # The average of a model has its names behind a prefix.
        self.masks = {*bad, *(f'module.{name}' for name in bad)}

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs: dict | None = None) -> None:
        """Check the losses of the step.

        Raises:
            ValueError: One is NaN or infinite.
        """
        bad = bad_losses(runner, outputs or {})
        self.bad_steps = self.bad_steps + 1 if bad else 0
        if bad and leaves_out_steps(runner) and self.bad_steps < self.patience:
            runner.logger.warning(f'{bad} at step {runner.iter + 1}; the loss scaler leaves this step out')
            bad = None
        self.stop_together(runner, bad, runner.iter + 1, runner.epoch + 1)
        if rank_and_count()[1] > 1 and any(writes_after_step(hook, runner) for hook in runner.hooks):
            self.check_together(runner, runner.iter + 1, runner.epoch + 1)

    def after_train_epoch(self, runner) -> None:
        """Check the weights in all processes, of which only one is about to write a checkpoint.

        Raises:
            ValueError: A weight is NaN or infinite.
        """
        if rank_and_count()[1] > 1:
            self.check_together(runner, runner.iter, runner.epoch + 1)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Check the weights, their average if there is one, and what the optimizer remembers.

        Raises:
            ValueError: A value is NaN or infinite.
        """
        parts = {part: checkpoint.get(part, {}).items() for part in ('state_dict', 'ema_state_dict')}
        parts['optimizer'] = optimizer_tensors(checkpoint.get('optimizer', {}).get('state', {}))
        for part, named in parts.items():
            if bad := [name for name in not_finite(named) if name not in self.masks]:
                what = f"{bad[0]} in the new checkpoint's {part} is not finite"
                raise ValueError(message(runner, what, checkpoint['meta']['iter'], checkpoint['meta']['epoch']))

    def check_together(self, runner, step: int, epoch: int) -> None:
        """Check the weights and the optimizer's memory in each process; all stop if one finds a bad value."""
        named = [*unwrap(runner.model).state_dict().items()]
        named += optimizer_tensors(getattr(getattr(runner.optim_wrapper, 'optimizer', None), 'state', {}))
        bad = [name for name in not_finite(named) if name not in self.masks]
        self.stop_together(runner, f'{bad[0]} is not finite' if bad else None, step, epoch)

    @staticmethod
    def stop_together(runner, what: str | None, step: int, epoch: int) -> None:
        """Raise the error in all processes if there is one in any.

        Args:
            runner: The runner.
            what: The bad value and its name, or None.
            step: Number of the step, from 1.
            epoch: Number of the epoch, from 1.

        Raises:
            ValueError: Some process has a bad value.
        """
        own = message(runner, what, step, epoch) if what else None
        if rank_and_count()[1] > 1:
            device = 'cpu' if distributed.get_backend() == 'gloo' else default_device()
            is_bad = torch.tensor(float(own is not None), device=device)
            distributed.all_reduce(is_bad)
            if is_bad.item():
                found: list[str | None] = [None] * rank_and_count()[1]
                distributed.all_gather_object(found, own)
                own = next(one for one in found if one is not None)
        if own is not None:
            raise ValueError(own)


def bad_losses(runner, outputs: Mapping) -> str | None:
    """The losses of a step that are not finite, by the names of their terms; None if all are finite."""
    scalars = runner.message_hub.log_scalars
    values = {
        key: float(scalars[f'train/{key}'].current() if f'train/{key}' in scalars else value)
        for key, value in outputs.items()
        if 'loss' in key
    }
    bad = [f'{key} is {value}' for key, value in values.items() if not math.isfinite(value) and key != 'loss']
    if not bad and not math.isfinite(values.get('loss', 0.0)):
        bad = [f'loss is {values["loss"]}']
    return ', '.join(bad) or None


def leaves_out_steps(runner) -> bool:
    """Whether a loss scaler leaves out the steps whose gradients are not finite."""
    scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
    return scaler is not None and scaler.is_enabled()


def writes_after_step(hook: Hook, runner) -> bool:
    """Whether a hook is about to write a checkpoint after this step."""
    if not isinstance(hook, CheckpointHook) or hook.by_epoch:
        return False
    is_due = hook.every_n_train_iters(runner, hook.interval, getattr(hook, 'save_begin', 0))
    return is_due or (hook.save_last and hook.is_last_train_iter(runner))


def optimizer_tensors(state: Mapping) -> Iterator[tuple[str, Tensor]]:
    """The tensors that an optimizer remembers of each parameter, by name."""
    for number, of_parameter in enumerate(state.values()):
        for key, value in of_parameter.items() if isinstance(of_parameter, Mapping) else ():
            if isinstance(value, Tensor):
                yield f'{key} of parameter {number}', value


def not_finite(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of tensors with a value that is not finite; the device is waited for once."""
    weights = {name: value for name, value in named if isinstance(value, Tensor) and value.is_floating_point()}
    by_device: dict[torch.device, list[str]] = {}
    for name, value in weights.items():
        by_device.setdefault(value.device, []).append(name)
    bad = []
    for names in by_device.values():
        finite = torch.stack([weights[name].isfinite().all() for name in names]).tolist()
        bad += [name for name, is_finite in zip(names, finite, strict=True) if not is_finite]
    return bad


def message(runner, what: str, step: int, epoch: int) -> str:
    """The error that names the bad value, the step and the last good checkpoint.

    Args:
        runner: The runner.
        what: The value and its name.
        step: Number of the step, from 1.
        epoch: Number of the epoch, from 1.
    """
    good = latest_checkpoint(runner.work_dir) or (runner._load_from if runner._resume else None)
    return (
        f'{what} at step {step} (epoch {epoch}); '
        + (f'the last good checkpoint is {good}' if good else 'there is no checkpoint yet')
        + '; lower the learning rate or clip gradients (optim_wrapper.clip_grad)'
    )
