"""Scores from per-image predictions: pure functions of arrays."""

import math
import re
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

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
"""Of the same AlexNet on ImageNet's validation set: 100 − 56.522 (torchvision, AlexNet_Weights.IMAGENET1K_V1)."""
NORMALISER = 'AlexNet'
ECE_BINS = 15
RESAMPLES = 10_000
Z95 = NormalDist().inv_cdf(0.975)


def accuracy_pct(hits: np.ndarray) -> float:
    """Share of true values, in percent."""
    return float(100 * np.mean(hits))


def wilson_ci95_pct(top1_pct: float, images: int) -> list[float]:
    """The Wilson score interval of an accuracy, 95 %, in percent.

    ``(p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n)``. Source: Wilson, JASA 1927.
    """
    p, n = top1_pct / 100, images
    centre, half = p + Z95**2 / (2 * n), Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    low, high = (100 * bound / (1 + Z95**2 / n) for bound in (centre - half, centre + half))
    # Rounding must not push a bound past the value itself at 0 and 100 %.
    return [max(0.0, min(low, top1_pct)), min(100.0, max(high, top1_pct))]


def paired_bootstrap_pct(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, list[float]]:
    """Difference of two accuracies on the same images, with its percentile bootstrap interval.

    Images are drawn with replacement, an image with all its corruptions at once. As a mean depends on the draws only
    by how often each value occurs, those counts are drawn (a multinomial), which costs the same for any number of
    images. Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.

    Args:
        a: Hits [cells, images] of one model.
        b: Hits of the other, of the same shape.
        seed: Of the draws.

    Returns:
        Mean of a − b, and the bounds of its 95 % interval, in percentage points.
    """
    difference = a.mean(axis=0) - b.mean(axis=0)
    values, counts = np.unique(difference.round(12), return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(difference), counts / counts.sum(), size=RESAMPLES)
    means = draws @ values / len(difference)
    return float(100 * difference.mean()), (100 * np.percentile(means, [2.5, 97.5])).tolist()


def agreement_pct(a: np.ndarray, b: np.ndarray) -> float:
    """Share of images with the same decision, in percent; an image without a decision (-1) agrees with none."""
    return float(100 * np.mean((a == b) & (a >= 0)))


def ece_pct(confidence: np.ndarray, hits: np.ndarray, bins: int = ECE_BINS) -> float:
    """Expected calibration error, in percent.

    ``Σ_b (n_b / n) |accuracy_b − confidence_b|`` over `bins` equally wide bins ``(low, high]`` of the confidence.
    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Args:
        confidence: Largest probability of each decision, any shape.
        hits: Whether it was right, of the same shape.
        bins: Number of bins.
    """
    confidence, hits = confidence.ravel().astype(np.float64), hits.ravel()
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, hits, bins) - np.bincount(index, confidence, bins)
    return float(100 * np.abs(gaps).sum() / len(confidence))


def mean_error_pct(cell_top1_pct: Mapping[str, Sequence[float]]) -> float:
    """Mean error over all kinds and severities of corruption, in percent: mean of 100 − top-1.

    Not normalised by AlexNet's errors, so it is not the mCE of Hendrycks & Dietterich (ICLR 2019). It is the number
    that the Robust-ResNet paper reports.
    """
    return float(100 - np.mean([np.mean(scores) for scores in cell_top1_pct.values()]))


def mce_pct(cell_top1_pct: Mapping[str, Sequence[float]], clean_top1_pct: float | None = None) -> float:
    """Mean corruption error normalised by AlexNet, in percent, or the relative one.

    ``mCE = mean_c (Σ_s E_s,c / Σ_s E_s,c^AlexNet)``; with `clean_top1_pct` the clean errors are subtracted above and
    below: ``relative mCE = mean_c (Σ_s (E_s,c − E_clean) / Σ_s (E_s,c^AlexNet − E_clean^AlexNet))``.
    Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
    Perturbations", ICLR 2019.

    Args:
        cell_top1_pct: Top-1 of each of the 15 kinds, severity 1 to 5.
        clean_top1_pct: Top-1 on the clean images, for the relative mCE.
    """
    clean = 0.0 if clean_top1_pct is None else 100 - clean_top1_pct
    alexnet_clean = 0.0 if clean_top1_pct is None else ALEXNET_CLEAN_ERROR_PCT
    ratios = [
        (100 - clean - np.mean(cell_top1_pct[kind])) / (np.mean(errors) - alexnet_clean)
        for kind, errors in ALEXNET_ERROR_PCT.items()
    ]
    return float(100 * np.mean(ratios))


def _logit(pct: np.ndarray | float) -> np.ndarray:
    # At 0 and 100 % the logit is infinite; a hundredth of a percent is half an image of ImageNet-V2.
    p = np.clip(np.asarray(pct, dtype=np.float64) / 100, 1e-4, 1 - 1e-4)
    return np.log(p / (1 - p))


def baseline_fit(clean_pct: Sequence[float], shifted_pct: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept of the line through baselines' (clean, shifted) accuracies, both as logits.

    Least squares. Source: Taori et al., "Measuring Robustness to Natural Distribution Shifts in Image
    Classification", NeurIPS 2020.

    Raises:
        ValueError: Fewer than two different clean accuracies.
    """
    if len(set(clean_pct)) < 2:
        raise ValueError('a baseline fit needs at least two baselines of different clean accuracy; name more')
    slope, intercept = np.polyfit(_logit(clean_pct), _logit(shifted_pct), 1)
    return float(slope), float(intercept)


def effective_robustness_pct(clean_pct: float, shifted_pct: float, slope: float, intercept: float) -> float:
    """Percentage points by which a shifted accuracy lies above what the baselines' line says for the clean one."""
    return float(shifted_pct - 100 / (1 + np.exp(-(slope * _logit(clean_pct) + intercept))))


def shape_bias(predicted: np.ndarray, shape: np.ndarray, texture: np.ndarray, classes: Sequence[str]) -> dict:
    """Decisions for the shape among those for shape or texture, over all images and for each class of shape.

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
    """The texture's class in a cue-conflict file name: ``circle12-star3.jpg`` → ``star``.

    Raises:
        ValueError: The name has another form.
    """
    match = re.search(r'-([A-Za-z_]+)\d*\.\w+$', path)
    if match is None:
        raise ValueError(f"cue-conflict image '{path}' is not named <shape><n>-<texture><m>.<ending>; rename it")
    return match[1]
