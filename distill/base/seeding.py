"""Random generators of Python, numpy and torch: seed them together, or leave them as they were."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def seed_everything(*numbers: int) -> int:
    """Seed Python, numpy and torch's CPU generator from a tuple of non-negative numbers.

    Tuples that differ give independent streams, which sums of seed and index would not.

    Returns:
        A further seed in [0, 2⁶³) that follows from the numbers.
    """
    words = np.random.SeedSequence(numbers).generate_state(4).tolist()
    random.seed(words[0])
    np.random.seed(words[0])
    torch.default_generator.manual_seed(words[1] << 32 | words[0])
    return (words[3] << 32 | words[2]) >> 1


@contextlib.contextmanager
def kept_generators() -> Iterator[None]:
    """Leave the generators of Python, numpy and torch's CPU as they were before the block."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
