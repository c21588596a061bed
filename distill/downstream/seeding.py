"""What is random about a detector's or segmenter's training samples follows from (seed, iteration, sample) alone.

mmengine's workers draw from generators that run on from sample to sample, so that a resumed run sees other crops and
flips than an uninterrupted one would have seen. Here the number of the iteration travels with each index: batches are
lists of (index, iteration), and the generators are seeded anew for every sample. With `SeedIterationHook`, which does
the same for drop path and the sampling of proposals, a resumed run ends with the weights of an uninterrupted one.
"""

import itertools
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import BatchSampler, Dataset, Sampler

from distill.base.seeding import seed_everything
from distill.downstream.checks import build_not_empty
from distill.training.resume import MidEpochHook


def seed_samples(config: Config) -> None:
    """Have the training samples of an mmdet or mmseg config seeded one by one."""
    loader = config.train_dataloader
    seed = config.get('randomness', {}).get('seed') or 0
    loader.dataset = dict(type='SeededSamples', dataset=loader.dataset, seed=seed)
    loader.batch_sampler = dict(
        type='NumberedBatches', batches=loader.get('batch_sampler'), drop_last=loader.pop('drop_last', False)
    )


@DATASETS.register_module()
class SeededSamples(Dataset):
    """A data set that is asked for (index, iteration), and seeds all generators from both before it answers.

    Whatever else is asked of it, it passes on to the data set inside.

    Args:
        dataset: Config of the data set.
        seed: Seed of the run.

    Raises:
        ValueError: The data set is empty.
    """

    def __init__(self, dataset: dict, seed: int = 0):
        self.dataset = build_not_empty(dataset)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        """One sample of a `NumberedBatches` batch."""
        index, iteration = key
        # The last number keeps these apart from the seeds of SeedIterationHook, which end with a rank.
        seed_everything(self.seed, iteration, index, 1)
        return self.dataset[index]

    def __getattr__(self, name: str):
        if name == 'dataset':  # Not yet there while a worker unpickles.
            raise AttributeError(name)
        return getattr(self.dataset, name)


@DATA_SAMPLERS.register_module()
class NumberedBatches(Sampler):
    """Batches of (index, iteration).

    Args:
        sampler: Sampler of indices.
        batch_size: Samples a batch.
        batches: Config of another batch sampler to take the batches from.
        drop_last: Leave out a last batch that is not full.

    Attributes:
        iteration: Number of the next batch.
        skip: How many batches to pass over first. Only their indices are drawn, no sample is loaded.
    """

    def __init__(self, sampler: Sampler, batch_size: int, batches: dict | None = None, drop_last: bool = False):
        self.sampler = sampler
        self.batch_size = batch_size
        self.batches = (
            DATA_SAMPLERS.build(batches, default_args=dict(sampler=sampler, batch_size=batch_size))
            if batches
            else BatchSampler(sampler, batch_size, drop_last)
        )
        self.iteration = 0
        self.skip = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in itertools.islice(self.batches, self.skip, None):
            numbered = [(index, self.iteration) for index in batch]
            self.iteration += 1
            yield numbered


@HOOKS.register_module()
class NumberBatchesHook(MidEpochHook):
    """Tell `NumberedBatches` the iteration, and where a resumed run goes on: mid-epoch, or in an endless sampler.

    mmengine would show an epoch that was stopped in the middle from its beginning again, and load all batches of an
    endless sampler's past, one by one, to throw them away.
    """

    def before_train_epoch(self, runner) -> None:
        """Set the number of the epoch's first batch."""
        loop = runner.train_loop
        batches = loop.dataloader.batch_sampler
        if not isinstance(loop, IterBasedTrainLoop):
            batches.iteration, batches.skip = runner.iter, self.begin_epoch(runner)
        elif runner.iter > 0 and isinstance(batches.sampler, InfiniteSampler):
            sampler = batches.sampler
            sampler.indices = InfiniteSampler(sampler.dataset, sampler.shuffle, sampler.seed).indices
            batches.iteration = batches.skip = runner.iter
            # The loop made its iterator before it knew of the past.
            fresh = type(loop.dataloader_iterator)(loop.dataloader)
            loop.dataloader_iterator = WithoutPast(fresh, runner.iter)


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
