"""Which training images a probe learns from: a share of each class, and which of these are held out."""

from collections.abc import Sequence

import numpy as np

HELD_OUT = 0.2
"""Share of the labelled images of a class on which a regulariser is chosen."""


def choose_labelled(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose a share of the images of each class, one at least.

    The images of a smaller share are among those of a larger one of the same seed.

    Args:
        labels: Classes of the images [N].
        share: From above 0 to 1.
        seed: Of the choice.

    Returns:
        Their indices in rising order.
    """
    chosen = [order[: max(1, round(share * len(order)))] for order in _orders(labels, seed)]
    return np.sort(np.concatenate(chosen))


def choose_held_out(labels: np.ndarray, seed: int) -> np.ndarray:
    """Choose the images on which a regulariser is chosen: a fifth of each class that has two images or more.

    Args:
        labels: Classes of the images [N].
        seed: Of the choice.

    Returns:
        Whether each is held out [N].
    """
    held_out = np.zeros(len(labels), bool)
    for order in _orders(labels, seed):
        if len(order) > 1:
            held_out[order[: max(1, round(HELD_OUT * len(order)))]] = True
    return held_out


def _orders(labels: np.ndarray, seed: int) -> Sequence[np.ndarray]:
    """The images of each class in an order that follows from (seed, class)."""
    return [
        np.random.default_rng((seed, int(label))).permutation(np.flatnonzero(labels == label))
        for label in np.unique(labels)
    ]
