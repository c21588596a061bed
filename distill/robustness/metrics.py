"""Scores from per-image predictions: pure functions of arrays."""

import re

import numpy as np


def accuracy_pct(hits: np.ndarray) -> float:
    """Share of true values, in percent."""
    return float(100 * np.mean(hits))


def mean_error_pct(cell_top1_pct: dict[str, list[float]]) -> float:
    """Mean error over all kinds and severities of corruption, in percent: mean of 100 − top-1.

    Not normalised by AlexNet's errors, so it is not the mCE of Hendrycks & Dietterich (ICLR 2019). It is the number
    that the Robust-ResNet paper reports.
    """
    return float(100 - np.mean([np.mean(scores) for scores in cell_top1_pct.values()]))


def shape_bias_pct(predicted: np.ndarray, shape: np.ndarray, texture: np.ndarray) -> float | None:
    """Share of decisions for the shape among those for shape or texture, in percent.

    Source: Geirhos et al., "ImageNet-trained CNNs are biased towards texture", ICLR 2019.

    Args:
        predicted: Predicted classes [N].
        shape: Class of each image's shape [N].
        texture: Class of each image's texture [N], another one.

    Returns:
        The share, or None if no decision was for either.
    """
    for_shape, for_texture = np.sum(predicted == shape), np.sum(predicted == texture)
    total = for_shape + for_texture
    return float(100 * for_shape / total) if total else None


def texture_class(path: str) -> str:
    """The texture's class in a cue-conflict file name: ``circle12-star3.jpg`` → ``star``.

    Raises:
        ValueError: The name has another form.
    """
    match = re.search(r'-([A-Za-z_]+)\d*\.\w+$', path)
    if match is None:
        raise ValueError(f"cue-conflict image '{path}' is not named <shape><n>-<texture><m>.<ending>; rename it")
    return match[1]
