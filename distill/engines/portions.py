"""Running an artefact on any number of images."""

from typing import Any

import numpy as np

from distill.engines import Session


def run_images(session: Session, images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Run a network of one input on images, in portions where its batch is fixed; the last one is padded with zeros.

    Args:
        session: An opened artefact.
        images: Of the artefact's type [B, 3, H, W].

    Returns:
        The outputs for the B images.

    Raises:
        ValueError: The artefact takes other images.
    """
    size = session.inputs[0].shape[0] or len(images)
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(images), size):
        portion = images[start : start + size]
        count = len(portion)
        if count < size:
            rest = np.zeros((size - count, *portion.shape[1:]), portion.dtype)
            portion = np.concatenate([portion, rest])
        found.append(tuple(one[:count] for one in session.run(portion)))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))
