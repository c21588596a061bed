"""Scores from per-image predictions: pure functions of arrays. Intervals are in `distill.results.statistics`."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import numpy as np

from distill.base.records import Cell
from distill.results.cells import cells_to_json
from distill.results.entries import ShapeBias
from distill.results.statistics import logit

Value = TypeVar('Value')

ALEXNET_ERROR_PCT = {
    'gaussian_noise': (69.528, 82.542, 93.554, 98.138, 99.452),
    'shot_noise': (71.224, 85.108, 93.574, 98.182, 99.146),
    'impulse_noise': (78.374, 89.808, 94.870, 98.720, 99.548),
    'defocus_blur': (65.624, 73.202, 85.036, 91.364, 94.714),
    'glass_blur': (64.308, 75.054, 88.806, 91.622, 93.344),
    'motion_blur': (58.430, 70.048, 82.108, 89.750, 92.638),
    'zoom_blur': (70.008, 76.992, 80.784, 84.198, 87.198),
    'snow': (71.726, 88.392, 86.468, 91.870, 94.952),
    'frost': (61.390, 79.734, 88.790, 89.942, 93.430),
    'fog': (67.474, 76.050, 84.378, 87.260, 94.500),
    'brightness': (45.140, 48.502, 54.048, 62.166, 72.440),
    'contrast': (64.548, 76.150, 88.874, 97.760, 99.270),
    'elastic_transform': (52.596, 70.116, 55.686, 64.076, 80.554),
    'pixelate': (52.218, 54.620, 73.728, 87.092, 91.262),
    'jpeg_compression': (51.002, 54.718, 57.294, 65.458, 74.778),
}
"""Top-1 error of torchvision's AlexNet on ImageNet-C, severity 1 to 5, in percent.

Their means over severities are the normalisers of AugMix's evaluation code (google-research/augmix), which has them
from the spreadsheet of https://github.com/hendrycks/robustness."""
ALEXNET_CLEAN_ERROR_PCT = 43.478
"""Top-1 error of the same AlexNet on ImageNet's validation set: 100 − 56.522 (AlexNet_Weights.IMAGENET1K_V1)."""
NORMALISER = 'AlexNet'
ECE_BINS = 15


def accuracy_pct(hits: np.ndarray) -> float:
    """Share of hits, in percent."""
    return float(100 * np.mean(hits))


def agreement_pct(a: np.ndarray, b: np.ndarray) -> float:
    """Share of images with the same decision, in percent; an image without a decision (-1) agrees with none."""
    return float(100 * np.mean((a == b) & (a >= 0)))


def ece_pct(confidence: np.ndarray, hits: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error, in percent.

    ``Σ_b (n_b / n) |accuracy_b − confidence_b|`` over `bins` equally wide bins ``(low, high]`` of the confidence.
    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        confidence: Probability of each decision, of any shape.
        hits: Whether each decision was right, of the same shape.
        bins: Number of bins.
    """
    confidence, hits = confidence.ravel().astype(np.float64), hits.ravel()
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, hits, bins) - np.bincount(index, confidence, bins)
    return float(100 * np.abs(gaps).sum() / len(confidence))


def mean_error_pct(top1_pct: Mapping[Cell, float]) -> float:
    """Mean error over all kinds and severities of corruption, in percent: mean of 100 − top-1.

    This is the number that the Robust-ResNet paper reports. It is not normalised by AlexNet's errors, so it is not the
    mCE of Hendrycks & Dietterich (ICLR 2019).

    Args:
        top1_pct: Top-1 of each cell.
    """
    return float(100 - np.mean([np.mean(scores) for scores in cells_to_json(top1_pct).values()]))


def unseen(values: Mapping[Cell, Value], seen: Collection[str]) -> dict[Cell, Value]:
    """The values of the kinds that a model did not see in training; empty where these are all of them."""
    left = {cell: value for cell, value in values.items() if cell.kind not in seen}
    return left if len(left) < len(values) else {}


def mce_pct(top1_pct: Mapping[Cell, float], clean_top1_pct: float | None = None) -> float:
    """Mean corruption error normalised by AlexNet, in percent, or the relative one.

    ``mCE = mean_c (Σ_s E_s,c / Σ_s E_s,c^AlexNet)``; with `clean_top1_pct` the clean errors are subtracted above and
    below: ``relative mCE = mean_c (Σ_s (E_s,c − E_clean) / Σ_s (E_s,c^AlexNet − E_clean^AlexNet))``.
    Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
    Perturbations", ICLR 2019.

    Args:
        top1_pct: Top-1 of each cell of the 15 kinds.
        clean_top1_pct: Top-1 on the clean images, for the relative mCE.
    """
    by_kind = cells_to_json(top1_pct)
    clean = 0.0 if clean_top1_pct is None else 100 - clean_top1_pct
    alexnet_clean = 0.0 if clean_top1_pct is None else ALEXNET_CLEAN_ERROR_PCT
    ratios = [
        (100 - clean - np.mean(by_kind[kind])) / (np.mean(errors) - alexnet_clean)
        for kind, errors in ALEXNET_ERROR_PCT.items()
    ]
    return float(100 * np.mean(ratios))


def effective_robustness_pct(clean_pct: float, shifted_pct: float, slope: float, intercept: float) -> float:
    """Points by which a shifted accuracy lies above the accuracy that the baselines' line gives for the clean one.

    Source: Taori et al., "Measuring Robustness to Natural Distribution Shifts in Image Classification", NeurIPS 2020.

    Args:
        clean_pct: Accuracy on the clean images.
        shifted_pct: Accuracy on the shifted images.
        slope: Of the line, see `distill.results.statistics.logit_line`.
        intercept: Of the line.
    """
    return float(shifted_pct - 100 / (1 + np.exp(-(slope * logit(clean_pct) + intercept))))


def shape_bias(predicted: np.ndarray, shape: np.ndarray, texture: np.ndarray, classes: Sequence[str]) -> ShapeBias:
    """Share of decisions for the shape among those for shape or texture, over all images and for each class of shape.

    Images whose shape and texture are of one class show no conflict and are left out.
    Source: Geirhos et al., "ImageNet-trained CNNs are biased towards texture", ICLR 2019.

    Args:
        predicted: Predicted classes [N].
        shape: Class of each image's shape [N].
        texture: Class of each image's texture [N].
        classes: Names of the classes.

    Returns:
        ``shape_bias_pct`` (None if no decision was for either), ``shape_bias_by_class`` (classes with such a decision
        only) and ``shape_bias_counts`` of decisions for ``shape``, ``texture`` and ``other``.
    """
    conflict = shape != texture
    for_shape, for_texture = conflict & (predicted == shape), conflict & (predicted == texture)

    def share(of: np.ndarray) -> float | None:
        total = for_shape[of].sum() + for_texture[of].sum()
        return float(100 * for_shape[of].sum() / total) if total else None

    by_class = {classes[k]: share(shape == k) for k in np.unique(shape[conflict])}
    counts = {'shape': int(for_shape.sum()), 'texture': int(for_texture.sum())}
    return {
        'shape_bias_pct': share(conflict),
        'shape_bias_by_class': {name: pct for name, pct in by_class.items() if pct is not None},
        'shape_bias_counts': {**counts, 'other': int(conflict.sum()) - sum(counts.values())},
    }


def texture_class(path: str) -> str:
    """Read the texture's class off a cue-conflict file name: ``circle12-star3.jpg`` → ``star``.

    Raises:
        ValueError: The name has another form.
    """
    match = re.search(r'-([A-Za-z_]+)\d*\.\w+$', path)
    if match is None:
        raise ValueError(f"cue-conflict image '{path}' is not named <shape><n>-<texture><m>.<ending>; rename it")
    return match[1]
