"""Plan the views of every epoch, and the pairs that are mixed, from a seed alone."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch


class Source(NamedTuple):
    """One of several sets that a run draws from: how many images it has, and its weight in the draw."""

    images: int
    weight: float


class ViewPlan:
    """The views of every epoch, in pairs of two images.

    An epoch has the images in an order that follows from (seed, epoch). Two neighbours make a pair; mixing mixes the
    images of a pair. With repeated augmentation (Hoffer et al., CVPR 2020) an epoch has a pair ``repeats`` times, each
    time in another view. As with DeiT it then has about as many views as the set has images: a multiple of 256 if the
    set is that large, and so views of a third of the images where ``repeats`` is 3. With an odd number of images one
    is left out, another in each epoch.

    Rows number all views: epoch by epoch, and within an epoch pair by pair. Epoch e has the views
    e · repeats, …, e · repeats + repeats − 1.

    Args:
        images: Number of images.
        repeats: Views of a drawn image in an epoch.
        shuffle: Draw an order for each epoch; otherwise the images keep their order.
        seed: Seed of the orders.

    Attributes:
        pairs: Pairs of an epoch.
        groups: Different pairs of an epoch, without their repeats.
        rows_per_epoch: Rows of an epoch: the views of all groups, of which the last may be cut in an epoch.

    Raises:
        ValueError: There are fewer than two images, or ``repeats`` is below 1.
    """

    def __init__(self, images: int, repeats: int = 1, shuffle: bool = True, seed: int = 0):
        if images < 2:
            raise ValueError(f'the training set has {images} image; views come in pairs, give it two or more')
        if repeats < 1:
            raise ValueError(f'repeats is {repeats}; give 1 for no repeated augmentation, or more (DeiT: 3)')
        views = images if repeats == 1 else images // 256 * 256 or images
        self.images, self.repeats, self.shuffle, self.seed = images, repeats, shuffle, seed
        self.pairs = max(views // 2, 1)
        self.groups = -(-self.pairs // repeats)
        self.rows_per_epoch = 2 * self.groups * repeats

    def epochs(self, views: int) -> int:
        """Number of epochs for which so many views of each image last.

        Raises:
            ValueError: ``views`` is no multiple of ``repeats``.
        """
        if views < 1 or views % self.repeats:
            raise ValueError(f'{views} views cannot be had with {self.repeats} an epoch; give a multiple of it')
        return views // self.repeats

    def keys(self, rows: np.ndarray) -> np.ndarray:
        """Image and view [N, 2] of rows [N]."""
        epochs, rest = np.divmod(np.asarray(rows, np.int64), self.rows_per_epoch)
        pairs, members = np.divmod(rest, 2)
        groups, repeats = np.divmod(pairs, self.repeats)
        images = np.empty_like(epochs)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            images[chosen] = self._order(epoch)[2 * groups[chosen] + members[chosen]]
        return np.stack([images, epochs * self.repeats + repeats], axis=1)

    def rows(self, keys: np.ndarray) -> np.ndarray:
        """Rows [N] of images and views [N, 2].

        Raises:
            ValueError: An image is not drawn in that view.
        """
        images, views = np.asarray(keys, np.int64).T
        epochs, repeats = np.divmod(views, self.repeats)
        places = np.empty_like(epochs)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            places[chosen] = _places(self.images, 2 * self.groups, self._seed, int(epoch))[images[chosen]]
        if (places < 0).any():
            image, view = (int(numbers[places < 0][0]) for numbers in (images, views))
            raise ValueError(f'image {image} is not drawn in view {view}; take the views from a ViewSampler')
        groups, members = np.divmod(places, 2)
        return epochs * self.rows_per_epoch + (groups * self.repeats + repeats) * 2 + members

    def epoch_pairs(self, epoch: int) -> np.ndarray:
        """Keys of an epoch by group of repeated pairs [groups, repeats, 2, 2]; the last axis is (image, view)."""
        rows = np.arange(epoch * self.rows_per_epoch, (epoch + 1) * self.rows_per_epoch)
        return self.keys(rows).reshape(self.groups, self.repeats, 2, 2)

    @property
    def _seed(self) -> int | None:
        return self.seed if self.shuffle else None

    def _order(self, epoch: int) -> np.ndarray:
        return _order(self.images, 2 * self.groups, self._seed, int(epoch))


class WeightedPlan(ViewPlan):
    """The views of every epoch of several sets, of which each has a share of every epoch.

    An epoch has as many views as all sets together have images, and set s has the share weight_s / Σ weights of them,
    whatever its size: the number of its pairs is rounded, the same in every epoch, and at least one. The images of a
    set come in passes: in a pass each comes once (of an odd number one is left out), in an order that follows from
    (seed, set, pass). So the views of an image are numbered by its passes, no view comes twice, and the draw is a
    function of (seed, epoch, place) alone. The two images of a pair are of one set and pass.

    Args:
        sources: The sets, in the order of the images.
        repeats: As in `ViewPlan`.
        seed: As in `ViewPlan`.

    Attributes:
        shares: Pairs of each set in an epoch, without their repeats.

    Raises:
        ValueError: A set has fewer than two images, a weight is not above 0, or ``repeats`` is below 1.
    """

    def __init__(self, sources: Sequence[Source], repeats: int = 1, seed: int = 0):
        super().__init__(sum(source.images for source in sources), repeats, True, seed)
        for place, (images, weight) in enumerate(sources):
            if images < 2:
                raise ValueError(f'source {place} has {images} image; views come in pairs, give it two or more')
            if not weight > 0:
                raise ValueError(f'source {place} has the weight {weight!r}; give a number above 0, or drop the source')
        self.sources = list(sources)
        self.shares = _apportioned([source.weight for source in sources], self.groups)
        if self.shares.sum() > self.groups:  # There are more sets than pairs.
            self.groups = int(self.shares.sum())
            self.pairs = self.groups * repeats
            self.rows_per_epoch = 2 * self.pairs
        self._pairs_of_pass = np.array([source.images // 2 for source in sources])
        self._first_image = np.cumsum([0, *(source.images for source in sources)])
        self._first_group = np.cumsum([0, *self.shares.tolist()])

    def keys(self, rows: np.ndarray) -> np.ndarray:
        """Image and view [N, 2] of rows [N]."""
        epochs, rest = np.divmod(np.asarray(rows, np.int64), self.rows_per_epoch)
        pairs, members = np.divmod(rest, 2)
        groups, repeats = np.divmod(pairs, self.repeats)
        slots = np.empty_like(epochs)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            slots[chosen] = _order(self.groups, self.groups, self.seed, int(epoch))[groups[chosen]]
        sets = np.searchsorted(self._first_group, slots, side='right') - 1
        drawn = epochs * self.shares[sets] + slots - self._first_group[sets]
        passes, places = np.divmod(drawn, self._pairs_of_pass[sets])
        images = np.empty_like(epochs)
        for one, number in np.unique(np.stack([sets, passes], axis=1), axis=0):
            chosen = (sets == one) & (passes == number)
            order = _pass_order(self.sources[one].images, self.seed, int(number), int(one))
            images[chosen] = self._first_image[one] + order[2 * places[chosen] + members[chosen]]
        return np.stack([images, passes * self.repeats + repeats], axis=1)

    def rows(self, keys: np.ndarray) -> np.ndarray:
        """Rows [N] of images and views [N, 2].

        Raises:
            ValueError: An image is not drawn in that view.
        """
        images, views = np.asarray(keys, np.int64).T
        passes, repeats = np.divmod(views, self.repeats)
        sets = np.searchsorted(self._first_image, images, side='right') - 1
        places = np.empty_like(images)
        for one, number in np.unique(np.stack([sets, passes], axis=1), axis=0):
            chosen = (sets == one) & (passes == number)
            order = _pass_places(self.sources[one].images, self.seed, int(number), int(one))
            places[chosen] = order[images[chosen] - self._first_image[one]]
        pairs, members = np.divmod(places, 2)
        lost = pairs >= self._pairs_of_pass[sets]
        if lost.any():
            image, view = (int(numbers[lost][0]) for numbers in (images, views))
            raise ValueError(f'image {image} is not drawn in view {view}; take the views from a ViewSampler')
        epochs, slots = np.divmod(passes * self._pairs_of_pass[sets] + pairs, self.shares[sets])
        slots += self._first_group[sets]
        groups = np.empty_like(slots)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            groups[chosen] = _places(self.groups, self.groups, self.seed, int(epoch))[slots[chosen]]
        return epochs * self.rows_per_epoch + (groups * self.repeats + repeats) * 2 + members


def plan_views(
    images: int, repeats: int = 1, shuffle: bool = True, seed: int = 0, sources: Sequence[Source] | None = None
) -> ViewPlan:
    """The plan of a set, or of several sets with weights.

    Raises:
        ValueError: Several sets are not to be shuffled, or as in `ViewPlan` and `WeightedPlan`.
    """
    if sources is None:
        return ViewPlan(images, repeats, shuffle, seed)
    if not shuffle:
        raise ValueError('sources with weights are drawn, not shown in order; set sampler.shuffle=True or drop weight')
    return WeightedPlan(sources, repeats, seed)


def _apportioned(weights: Sequence[float], count: int) -> np.ndarray:
    """Whole numbers of one or more in the ratio of weights, by the largest remainders.

    They add up to the count, unless there are more weights than that.
    """
    exact = np.array(weights, np.float64) / np.sum(weights) * count
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind='stable')[: count - shares.sum()]] += 1
    shares = np.maximum(shares, 1)
    while shares.sum() > max(count, len(shares)):
        shares[shares.argmax()] -= 1
    return shares


def permutation(length: int, *seed: int) -> np.ndarray:
    """A permutation of ``range(length)`` that follows from a tuple of non-negative numbers."""
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
    return torch.randperm(length, generator=generator).numpy()


@functools.lru_cache(maxsize=4)
def _order(images: int, drawn: int, seed: int | None, epoch: int) -> np.ndarray:
    """The drawn images of an epoch, partners side by side."""
    return (np.arange(images) if seed is None else permutation(images, seed, epoch))[:drawn]


@functools.lru_cache(maxsize=4)
def _places(images: int, drawn: int, seed: int | None, epoch: int) -> np.ndarray:
    """Where each image stands in the order of an epoch; −1 if it is not drawn."""
    places = np.full(images, -1)
    places[_order(images, drawn, seed, epoch)] = np.arange(drawn)
    return places


@functools.lru_cache(maxsize=8)
def _pass_order(images: int, seed: int, number: int, source: int) -> np.ndarray:
    """The images of a pass through a source, partners side by side."""
    return permutation(images, seed, number, source + 1)


@functools.lru_cache(maxsize=8)
def _pass_places(images: int, seed: int, number: int, source: int) -> np.ndarray:
    """Where each image stands in the order of a pass."""
    return np.argsort(_pass_order(images, seed, number, source))
