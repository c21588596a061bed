"""Keep a resumed run equal to one that was never stopped: the newest checkpoint, and its place in the data."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mmengine.hooks import Hook, IterTimerHook
from mmengine.runner import EpochBasedTrainLoop


class StepSize(NamedTuple):
    """What a step takes: samples of each process, and processes."""

    batch_size: int
    processes: int

    @property
    def samples(self) -> int:
        """Samples of a step over all processes."""
        return self.batch_size * self.processes

    def __str__(self) -> str:
        return f'{self.batch_size} images x {self.processes} process{"es" if self.processes > 1 else ""}'


@dataclass
class Place:
    """Where in the data a checkpoint was written.

    Attributes:
        samples: Samples since the beginning of the epoch, or of an endless sampler, over all processes; None where the
            checkpoint does not say.
        batches: Batches since then.
        step: What a step took; None where the checkpoint does not say.
    """

    samples: int | None
    batches: int | None
    step: StepSize | None

    @classmethod
    def read(cls, meta: dict) -> 'Place':
        """The place in a checkpoint's ``meta``, as far as it is known; before, there was ``batches_done`` alone."""
        samples, batches, *step = (meta.get(key) for key in ('samples_done', 'batches_done', 'batch_size', 'processes'))
        is_known = all(type(value) is int and value > 0 for value in step)
        return cls(samples if is_known else None, batches, StepSize(*step) if is_known else None)


class MidEpochHook(Hook):
    """Note in each checkpoint how many samples are done, and accumulate gradients within epochs only.

    The base of the hooks that resume a run in the middle of an epoch. Positions are in samples, so that a run may go on
    with another batch size or number of processes wherever their product divides the samples that are done; elsewhere
    some images would be shown twice and others never.

    Gradients that wait for the next epoch would be lost where a checkpoint lies between the two; so the last step of an
    epoch takes the gradients that there are.

    Attributes:
        place: Where the checkpoint was written that the run resumes, until that epoch begins.
        done: Batches of the epoch that the checkpoint has seen, until that epoch begins.
        start: Iteration at which the current epoch has begun.
        before: Samples that were done at that iteration.
    """

    def __init__(self):
        self.place: Place | None = None
        self.done = 0
        self.start = 0
        self.before = 0

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Write how far the data has come."""
        meta = checkpoint['meta']
        step = step_size(runner)
        is_inside = meta['epoch'] == runner.epoch or not is_epoch_based(runner)
        meta['batches_done'] = meta['iter'] - self.start if is_inside else 0
        meta['samples_done'] = self.before + meta['batches_done'] * step.samples
        meta['batch_size'], meta['processes'] = step

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Read how far the data has come, if the run is resumed."""
        self.place = Place.read(checkpoint.get('meta') or {}) if runner._resume else None

    def find_place(self, runner, takes_other_steps: bool) -> None:
        """Find the batch of an epoch at which the run goes on, before it trains.

        Args:
            runner: An epoch-based runner with its loader.
            takes_other_steps: Whether the loader deals samples in an order that does not depend on the size of steps.

        Raises:
            ValueError: The steps have another size, with which the loader cannot go on at the same sample.
        """
        place, now, length = self.place, step_size(runner), len(runner.train_loop.dataloader)
        if place is None:
            return
        if place.step is None or place.samples is None or place.step == now:
            self.done = place.batches or 0
            if place.batches is None:
                # Of a checkpoint that mmengine's own runner has written.
                behind = runner.iter - runner.epoch * length
                self.done = behind if 0 < behind < length else 0
                if behind:
                    runner.logger.info(
                        f'the checkpoint is {behind} steps into its epoch; going on there'
                        if self.done
                        else 'the checkpoint does not say how far its epoch had come; the epoch begins anew'
                    )
            return
        if place.samples and not (takes_other_steps and place.samples % now.samples == 0):
            raise ValueError(other_steps(place, now, takes_other_steps))
        self.done = place.samples // now.samples
        if place.step.samples != now.samples:
            count_in_new_steps(runner, runner.epoch * length + self.done)

    def begin_epoch(self, runner) -> int:
        """Begin an epoch, or go on in one.

        Returns:
            How many batches of the epoch are done.
        """
        done, self.done, self.place = self.done, 0, None
        self.start = runner.iter - done
        if runner.optim_wrapper._accumulative_counts > 1:
            runner.optim_wrapper.initialize_count_status(runner.model, done, len(runner.train_loop.dataloader))
        return done


def step_size(runner) -> StepSize:
    """What a step of a run takes."""
    loader = runner.train_loop.dataloader
    return StepSize(loader.batch_size or loader.batch_sampler.batch_size, runner.world_size)


def other_steps(place: Place, now: StepSize, takes_other_steps: bool) -> str:
    """The error about steps that cannot go on at the place of a checkpoint."""
    others = f' or other steps whose images over all processes divide {place.samples}' if takes_other_steps else ''
    return (
        f'the checkpoint was written after {place.samples} images with steps of {place.step}, and steps of {now} '
        'cannot go on there without images that are shown twice or never; resume with '
        f'train_dataloader.batch_size={place.step.batch_size} and {place.step.processes} process'
        f'{"es" if place.step.processes > 1 else ""}{others}, or from the end of an epoch'
    )


def count_in_new_steps(runner, iteration: int) -> None:
    """Have the iterations and the schedules of an epoch-based run count steps of another size.

    A schedule counts iterations. It is made again from the config, for epochs of the new length, and goes through the
    steps that the run would have made with it.

    Args:
        runner: The runner, which has resumed.
        iteration: Number of the next iteration, in new steps.
    """
    old, runner.train_loop._iter = runner.iter, iteration
    runner.logger.info(f'steps have another size than in the checkpoint: iteration {old} becomes {iteration}')
    for hook in runner.hooks:
        if isinstance(hook, IterTimerHook):
            hook.start_iter = iteration
    settings, schedulers = runner.cfg.get('param_scheduler'), runner.param_schedulers
    groups = getattr(runner.optim_wrapper, 'param_groups', None)
    if not settings or groups is None or not isinstance(schedulers, list):
        return
    if any(type(scheduler).__name__.startswith('ReduceOnPlateau') for scheduler in schedulers):
        runner.logger.warning('a schedule follows scores and is not made again; set the learning rate if need be')
        return
    length = len(runner.train_loop.dataloader)
    names = {scheduler.param_name for scheduler in schedulers}
    for group in groups:
        group.update({name: group[f'initial_{name}'] for name in names if f'initial_{name}' in group})
    runner.param_schedulers = runner.build_param_scheduler(settings)
    for number in range(1, iteration + 1):
        for scheduler in runner.param_schedulers:
            if not scheduler.by_epoch or number % length == 0:
                scheduler.step()


def is_epoch_based(runner) -> bool:
    """Whether a run is counted in epochs."""
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


class WithoutPast:
    """An iterator for a loop that is about to pass over the batches of the past, which are no longer in it.

    Args:
        batches: What comes after the past.
        past: How many batches the loop will pass over: one by one in mmengine, at once in onedl-mmengine.
    """

    def __init__(self, batches: Iterator, past: int):
        self.batches = batches
        self.past = past

    def __iter__(self) -> Iterator:
        return self

    def __next__(self):
        if self.past:
            self.past -= 1
            return None
        return next(self.batches)

    def skip_iter(self, count: int) -> None:
        """Pass over batches of the past."""
        self.past -= count


def latest_checkpoint(work_dir: str | os.PathLike) -> str | None:
    """The newest checkpoint of a work directory; None if there is none.

    Of ``epoch_*.pth`` and ``iter_*.pth`` that is the one with the highest number. mmengine's note ``last_checkpoint``
    tells where checkpoints have other names, or numbers that begin again; it is written after the checkpoint.
    """
    numbered = [
        (int(path.stem.partition('_')[2]), path)
        for path in Path(work_dir).glob('*.pth')
        if path.stem.partition('_')[0] in ('epoch', 'iter') and path.stem.partition('_')[2].isdigit()
    ]
    newest = max(numbered)[1] if numbered else None
    note = Path(work_dir, 'last_checkpoint')
    noted = Path(note.read_text().strip()) if note.is_file() else None
    if noted is not None:
        # The work directory may have been moved.
        noted = next((path for path in (Path(work_dir, noted.name), noted) if path.is_file()), None)
    if noted is not None and (newest is None or noted.stat().st_mtime > newest.stat().st_mtime):
        newest = noted
    return str(newest) if newest is not None else None
