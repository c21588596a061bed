"""Plan the views of every epoch, and the pairs that are mixed, from a seed alone."""

import functools

import numpy as np
import torch


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
