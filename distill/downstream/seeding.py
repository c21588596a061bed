"""Random numbers of a training sample follow from (seed, iteration, sample) alone, for detectors and segmenters.

mmengine's workers draw from generators that run on from sample to sample, so that a resumed run sees other crops and
flips than an uninterrupted one would have seen. `SeedSamplesHook` has the number of the iteration travel with each
index: batches are lists of (index, iteration), and the generators are seeded anew for every sample. With
`SeedIterationHook`, which does the same for drop path and the sampling of proposals, a resumed run ends with the
weights of an uninterrupted one.
"""

import itertools
from collections.abc import Iterator

from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import DATA_SAMPLERS, HOOKS
from torch.utils.data import BatchSampler, Dataset, Sampler

from distill.base.seeding import kept_generators, seed_everything
from distill.training.resume import MidEpochHook, WithoutPast, is_epoch_based, other_steps, step_size


class SeededSamples(Dataset):
    """A data set indexed by (index, iteration), which seeds all generators from both before it loads the sample.

    All other attributes are those of the data set inside, to read and to write.

    Args:
        dataset: The data set.
        seed: Seed of the run.
    """

    def __init__(self, dataset: Dataset, seed: int):
        vars(self).update(dataset=dataset, seed=seed)

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

    def __setattr__(self, name: str, value) -> None:
        # mmdet's PipelineSwitchHook sets the pipeline.
        setattr(self.dataset, name, value)

    def __deepcopy__(self, memo: dict) -> 'SeededSamples':
        # mmengine copies a loader's settings before it builds the loader; annotations may be gigabytes.
        return self


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
        skip_samples: How many indices of the sampler to pass over first, in place of batches.
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
        self.skip_samples = 0

    def __len__(self) -> int:
        return len(self.batches)

    @property
    def are_plain(self) -> bool:
        """Whether batches are the sampler's indices one after the other, whatever the batch size."""
        return type(self.batches) is BatchSampler

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        batches = self.batches
        if self.skip_samples:
            indices = itertools.islice(self.sampler, self.skip_samples, None)
            batches = BatchSampler(indices, self.batch_size, self.batches.drop_last)
        for batch in itertools.islice(batches, self.skip, None):
            numbered = [(index, self.iteration) for index in batch]
            self.iteration += 1
            yield numbered


@HOOKS.register_module()
class SeedSamplesHook(MidEpochHook):
    """Seed every training sample from (seed, iteration, index), and resume inside an epoch.

    Before training the hook builds the train loader again, around the data set that is there, with `SeededSamples`
    and `NumberedBatches`; the config's own sampler and batch sampler choose the samples as before. The seed is that of
    the run (``randomness.seed``).

    A resumed run goes on at its batch. mmengine would show an epoch that was stopped in the middle from its beginning
    again, and load all batches of an endless sampler's past, one by one, to throw them away.
    """

    def before_train(self, runner) -> None:
        """Build the train loader again.

        Raises:
            ValueError: The runner's config has no ``train_dataloader``, or steps of this size cannot go on at the
                place of the checkpoint.
        """
        settings = runner.cfg.get('train_dataloader')
        if not settings:
            raise ValueError(
                'SeedSamplesHook finds no train_dataloader in the config of the runner; '
                'give the loader there, or switch the hook off by default_hooks.seed_samples=None'
            )
        loop = runner.train_loop
        # Batches of one epoch are counted already in the data set that the loop has.
        settings = {key: value for key, value in settings.items() if key not in ('num_batch_per_epoch', 'drop_last')}
        settings['batch_sampler'] = dict(
            type=NumberedBatches,
            batches=settings.get('batch_sampler'),
            drop_last=runner.cfg.train_dataloader.get('drop_last', False),
        )
        settings['dataset'] = SeededSamples(loop.dataloader.dataset, runner.seed)
        different = runner._randomness_cfg.get('diff_rank_seed', False)
        with kept_generators():
            loop.dataloader = runner.build_dataloader(settings, seed=runner.seed, diff_rank_seed=different)
        batches = loop.dataloader.batch_sampler
        if is_epoch_based(runner):
            self.find_place(runner, batches.are_plain and type(batches.sampler) is DefaultSampler)
        else:
            self.find_place_in_stream(runner)

    def find_place_in_stream(self, runner) -> None:
        """Find the sample at which an iteration-based run goes on.

        Raises:
            ValueError: The steps have another size, with which the loader cannot go on at the same sample.
        """
        place, now = self.place, step_size(runner)
        if place is None:
            return
        batches = runner.train_loop.dataloader.batch_sampler
        self.start = runner.iter
        self.before = runner.iter * now.samples
        if place.step is None or place.samples is None:
            return
        self.before = place.samples
        if place.step != now or place.samples != runner.iter * now.samples:
            is_endless = batches.are_plain and type(batches.sampler) is InfiniteSampler
            if not is_endless or place.samples % now.processes:
                raise ValueError(other_steps(place, now, takes_other_steps=False))
            batches.skip_samples = place.samples // now.processes

    def before_train_epoch(self, runner) -> None:
        """Set the number of the epoch's first batch, and pass over those that are done."""
        loop = runner.train_loop
        batches = loop.dataloader.batch_sampler
        if is_epoch_based(runner):
            batches.iteration, batches.skip = runner.iter, self.begin_epoch(runner)
            return
        passed = runner.iter > 0 and isinstance(batches.sampler, InfiniteSampler)
        if passed:
            batches.iteration = runner.iter
            batches.skip = 0 if batches.skip_samples else runner.iter
        with kept_generators():
            # The loop made its iterator out of the loader that it had, and before it knew of the past.
            fresh = type(loop.dataloader_iterator)(loop.dataloader)
        forwards = not getattr(loop, 'fast_forward_on_resume', False)
        loop.dataloader_iterator = WithoutPast(fresh, runner.iter) if passed and forwards else fresh
