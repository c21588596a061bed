"""Intervals and lines by hand, and against published numbers."""

import math

import numpy as np
import pytest

from distill.results.statistics import (
    Score,
    logit,
    logit_line,
    mean_and_half_width95,
    mean_score,
    paired_bootstrap,
    wilson_score,
)


def test_wilson_intervals_are_the_published_ones():
    # Newcombe, Statistics in Medicine 1998, Table I: 81 of 263 and 0 of 20.
    for top1_pct, images, low, high in ((100 * 81 / 263, 263, 25.53, 36.62), (0, 20, 0, 16.11), (100, 20, 83.89, 100)):
        score = wilson_score(top1_pct, images)
        assert (score.low, score.high) == pytest.approx((low, high), abs=0.005)
        assert score.low <= score.value == top1_pct <= score.high


def test_a_difference_of_wilson_intervals_is_newcombes():
    # Newcombe, Statistics in Medicine 17 (1998), 873-890: 56/70 - 48/80 by method 10.
    change = wilson_score(80, 70) - wilson_score(60, 80)
    assert (change.value, change.low, change.high) == pytest.approx((20, 5.24, 33.39), abs=0.01)
    assert (change.sign, (wilson_score(60, 80) - wilson_score(80, 70)).sign) == (1, -1)
    assert (wilson_score(60, 80) - wilson_score(61, 80)).sign == 0


def test_the_interval_of_a_mean_shrinks_with_the_count_of_scores():
    assert mean_score([Score(50, 47, 54)] * 4) == Score(50, 48.5, 52)


def test_paired_bootstrap_is_the_distribution_of_resampled_means():
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 200)) < 0.7, rng.random((3, 200)) < 0.6
    score = paired_bootstrap(first, second)
    per_image = 100 * (first.mean(axis=0) - second.mean(axis=0))
    assert score.value == pytest.approx(per_image.mean())
    plain = per_image[rng.integers(0, 200, size=(10_000, 200))].mean(axis=1)
    assert (score.low, score.high) == pytest.approx(np.percentile(plain, [2.5, 97.5]), abs=0.25)
    assert paired_bootstrap(first, second) == score
    # What is equal on each image is equal for sure, however uncertain either accuracy is.
    assert paired_bootstrap(first, first) == Score(0, 0, 0)


def test_students_interval_is_that_of_the_table():
    # Quantiles of Student's t for 97.5 %: 4.3027 with 2 degrees of freedom; here s = 1 and n = 3.
    mean, half_width95 = mean_and_half_width95([1.0, 2.0, 3.0])
    assert (mean, half_width95) == (2, pytest.approx(4.3027 / math.sqrt(3), abs=1e-4))
    assert mean_and_half_width95([1.0]) == (1, None)


def test_logit_by_hand_and_off_the_ends():
    assert logit([20, 50, 80]).tolist() == pytest.approx([-math.log(4), 0, math.log(4)])
    # A hundredth of a percent off the ends, or as far as is asked for.
    assert logit([0, 100]).tolist() == pytest.approx([-math.log(9999), math.log(9999)])
    assert float(logit(100, margin=0.2)) == pytest.approx(math.log(4))


def test_a_line_between_logits_by_hand():
    # logit(0.8) = ln 4 and logit(0.9) = ln 9; a line with slope 1 and intercept −ln 2.
    slope, intercept = logit_line([80, 90], [100 * 2 / 3, 100 * 4.5 / 5.5])
    assert (slope, intercept) == (pytest.approx(1), pytest.approx(-math.log(2)))
    with pytest.raises(ValueError, match='at least two baselines'):
        logit_line([80, 80], [70, 60])
