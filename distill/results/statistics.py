"""Intervals of scores and of their differences, and lines through scores: pure functions of numbers.

Accuracies are in percent and their differences in percentage points; intervals are of 95 %.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

Z95 = statistics.NormalDist().inv_cdf(0.975)
RESAMPLES = 10_000
LOGIT_MARGIN = 1e-4
"""At 0 and 100 % the logit is infinite; a hundredth of a percent is half an image of ImageNet-V2."""


@dataclass(frozen=True)
class Score:
    """A value and its 95 % interval, in percent or in points.

    Differences and means combine the intervals of independent scores by the method of variance estimates
    recovery (Zou and Donner, Statistics in Medicine 2008); for the difference of two Wilson intervals that is
    Newcombe's hybrid score interval. Two models judged on the same images are usually positively correlated,
    so the interval of their difference is rather too wide than too narrow.
    """

    value: float
    low: float
    high: float

    def __sub__(self, other: 'Score') -> 'Score':
        value = self.value - other.value
        below = math.hypot(self.value - self.low, other.high - other.value)
        above = math.hypot(self.high - self.value, other.value - other.low)
        return Score(value, value - below, value + above)

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of zero, else 0."""
        return (self.low > 0) - (self.high < 0)


def mean_score(scores: Sequence[Score]) -> Score:
    """The plain mean of independent scores, see `Score`."""
    count = len(scores)
    value = sum(score.value for score in scores) / count
    below = math.hypot(*(score.value - score.low for score in scores)) / count
    above = math.hypot(*(score.high - score.value for score in scores)) / count
    return Score(value, value - below, value + above)


def wilson_score(top1_pct: float, images: int) -> Score:
    """An accuracy with its Wilson score interval.

    ``(p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n)``. Source: Wilson, JASA 1927.

    Args:
        top1_pct: The accuracy.
        images: How many images it was measured on.
    """
    p, n = top1_pct / 100, images
    centre, half = p + Z95**2 / (2 * n), Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    low, high = (100 * bound / (1 + Z95**2 / n) for bound in (centre - half, centre + half))
    # Rounding must not push a bound past the value itself at 0 and 100 %.
    return Score(top1_pct, max(0.0, min(low, top1_pct)), min(100.0, max(high, top1_pct)))


def paired_bootstrap(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Score:
    """The difference of two accuracies on the same images, with its percentile bootstrap interval.

    Images are drawn with replacement, an image with all its corruptions at once. As a mean depends on the draws only
    by how often each value occurs, those counts are drawn (a multinomial), which costs the same for any number of
    images. Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.

    Args:
        first: Hits [cells, images] of one model.
        second: Hits of the other model, of the same shape.
        seed: Of the draws.

    Returns:
        Accuracy of the first model minus that of the second, in points.
    """
    difference = first.mean(axis=0) - second.mean(axis=0)
    values, counts = np.unique(difference.round(12), return_counts=True)
    draws = np.random.default_rng(seed).multinomial(len(difference), counts / counts.sum(), size=RESAMPLES)
    means = draws @ values / len(difference)
    low, high = (100 * np.percentile(means, [2.5, 97.5])).tolist()
    return Score(float(100 * difference.mean()), low, high)


def mean_and_half_width95(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean of independent values with half of its Student's t interval: ``t(0.975, n−1) · s / √n``.

    Returns:
        The mean; and half the width of its interval, or None for a single value, which tells nothing about the spread.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    return mean, float(stdtrit(len(values) - 1, 0.975)) * (statistics.stdev(values) / math.sqrt(len(values)))


def logit(pct: float | Sequence[float] | np.ndarray, margin: float = LOGIT_MARGIN) -> np.ndarray:
    """The log-odds ``ln(p / (1 − p))`` of accuracies, which are kept off 0 and 100 % by a margin.

    Args:
        pct: The accuracies, of any shape.
        margin: Least and, taken from 1, largest p.
    """
    p = np.clip(np.asarray(pct, dtype=np.float64) / 100, margin, 1 - margin)
    return np.log(p / (1 - p))


def logit_line(clean_pct: Sequence[float], shifted_pct: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept of the least squares line through (clean, shifted) accuracies, both as logits.

    The accuracies of many models lie on such a line. Source: Taori et al., "Measuring Robustness to Natural
    Distribution Shifts in Image Classification", NeurIPS 2020.

    Raises:
        ValueError: Fewer than two different clean accuracies.
    """
    if len(set(clean_pct)) < 2:
        raise ValueError('a baseline fit needs at least two baselines of different clean accuracy; name more')
    slope, intercept = np.polyfit(logit(clean_pct), logit(shifted_pct), 1)
    return float(slope), float(intercept)
