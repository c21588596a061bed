"""Deal the views of an epoch to the processes of a run, in pairs."""

from collections.abc import Iterator

import numpy as np
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS

from distill.data.plan import permutation, plan_views
from distill.data.views import Views


@DATA_SAMPLERS.register_module()
class ViewSampler(DefaultSampler):
    """mmengine's sampler with two additions: each index comes with the number of a view, and views come in pairs.

    Views 2k and 2k + 1 of a batch are partners for mixing, so a batch should have an even size. Which two are partners
    follows from the seed of the views (`Views.seed`), as all that is random about a view does; the run's seed orders
    the pairs. Of n processes each gets every n-th pair, so that together they see what one process with n times the
    batch would see.

    Args:
        dataset: A `Views`.
        shuffle: Draw pairs and their order.
        seed: The run's seed.
        repeats: Repeated augmentation: views of an image in an epoch, which different processes get (DeiT: 3). An
            epoch has as many views as without repeats, see `ViewPlan`.

    Attributes:
        plan: The views of every epoch; those of several sets with weights are a `WeightedPlan`.
        epochs: Epochs after which the views start again; None for never. A teacher's cache sets it.
        skip: How many of this process's views to leave out at the beginning of the epoch, since a resumed run has seen
            them.
    """

    def __init__(self, dataset: Views, shuffle: bool = True, seed: int | None = None, repeats: int = 1):
        super().__init__(dataset, shuffle=shuffle, seed=seed)
        self.plan = plan_views(len(dataset), repeats, shuffle, dataset.seed, getattr(dataset, 'sources', None))
        self.epochs: int | None = None
        self.skip = 0

    def __len__(self) -> int:
        return 2 * -(-self.plan.pairs // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        groups = self.plan.epoch_pairs(self.epoch % self.epochs if self.epochs else self.epoch)
        if self.shuffle:
            groups = groups[permutation(len(groups), self.seed, self.epoch)]
        pairs = groups.reshape(-1, 2, 2)[: self.plan.pairs]
        # As in mmengine's sampler, the first pairs come again at the end, so that each process gets the same number.
        pairs = np.resize(pairs, (len(self) // 2 * self.world_size, 2, 2))[self.rank :: self.world_size]
        keys = pairs.reshape(-1, 2)[self.skip :]
        return zip(keys[:, 0].tolist(), keys[:, 1].tolist(), strict=True)
