"""Scores by hand, and against published pairs."""

import math

import numpy as np
import pytest

from distill.base.records import Cell
from distill.results.cells import cells_from_json
from distill.results.statistics import logit_line
from distill.robustness import metrics

RESNET50_TOP1_PCT = {
    'gaussian_noise': 29.29,
    'shot_noise': 27.03,
    'impulse_noise': 23.81,
    'defocus_blur': 38.75,
    'glass_blur': 26.79,
    'motion_blur': 38.67,
    'zoom_blur': 36.24,
    'snow': 32.53,
    'frost': 38.14,
    'fog': 45.83,
    'brightness': 68.02,
    'contrast': 39.06,
    'elastic_transform': 45.25,
    'pixelate': 44.79,
    'jpeg_compression': 53.41,
}
"""torchvision's ResNet-50 on ImageNet-C, mean over severities: bethgelab/game-of-noise, Results/clean_results.txt."""


def around(top1_pct: dict[str, float]) -> dict[Cell, float]:
    """Cells whose mean over severities is that of each kind."""
    return cells_from_json({kind: [value + delta for delta in (10, 5, 0, -5, -10)] for kind, value in top1_pct.items()})


def test_accuracy_and_mean_error():
    assert metrics.accuracy_pct(np.array([True, False, True, True])) == 75
    two = cells_from_json({'fog': [90, 80, 70, 60, 50], 'snow': [50, 50, 50, 50, 50]})
    assert metrics.mean_error_pct(two) == pytest.approx(100 - (70 + 50) / 2)


def test_mce_of_resnet50_is_the_published_one():
    assert metrics.mean_error_pct(around(RESNET50_TOP1_PCT)) == pytest.approx(100 - 39.17, abs=0.01)
    assert metrics.mce_pct(around(RESNET50_TOP1_PCT)) == pytest.approx(76.70, abs=0.005)
    # Hendrycks and Dietterich's Table 1 has 105.0.
    assert metrics.mce_pct(around(RESNET50_TOP1_PCT), 76.13) == pytest.approx(105.0, abs=0.06)


def test_mce_of_a_kind_is_a_ratio_of_sums():
    published = {'gaussian_noise': 79.77, 'glass_blur': 88.61, 'brightness': 56.64, 'jpeg_compression': 76.82}
    for kind, ce_pct in published.items():
        errors = metrics.ALEXNET_ERROR_PCT[kind]
        assert 100 * (100 - RESNET50_TOP1_PCT[kind]) / (sum(errors) / 5) == pytest.approx(ce_pct, abs=0.01)


def test_mce_of_alexnet_is_100():
    errors = cells_from_json(metrics.ALEXNET_ERROR_PCT)
    alexnet = {cell: 100 - error for cell, error in errors.items()}
    assert metrics.mce_pct(alexnet) == pytest.approx(100)
    assert metrics.mce_pct(alexnet, 100 - metrics.ALEXNET_CLEAN_ERROR_PCT) == pytest.approx(100)
    # A model as good on corrupted images as on clean ones has no relative error.
    assert metrics.mce_pct(dict.fromkeys(alexnet, 60), 60) == pytest.approx(0)


def test_ece_by_hand():
    # Bins (0.2, 0.267], (0.533, 0.6] and (0.933, 1]: |0 − 0.5|, |1 − 0.6| of two, and |1.9 − 2| of two, over five.
    confidence = np.array([0.25, 0.6, 0.55, 0.95, 0.95])
    hits = np.array([False, True, False, True, True])
    expected = (0.25 + abs(1 - 1.15) + abs(2 - 1.9)) / 5
    assert metrics.ece_pct(confidence, hits) == pytest.approx(100 * expected)
    assert metrics.ece_pct(np.array([1 / 15, 1.0]), np.array([True, True])) == pytest.approx(100 * (14 / 15) / 2)


def test_agreement_counts_no_decision_as_disagreement():
    assert metrics.agreement_pct(np.array([[1, 2, 3, -1]]), np.array([[1, 2, 0, -1]])) == 50


def test_effective_robustness_by_hand():
    # logit(0.8) = ln 4 and logit(0.9) = ln 9; a line with slope 1 and intercept −ln 2.
    clean = [80, 90]
    shifted = [100 * 2 / 3, 100 * 4.5 / 5.5]
    slope, intercept = logit_line(clean, shifted)
    assert (slope, intercept) == (pytest.approx(1), pytest.approx(-math.log(2)))
    # At 50 % clean the line says odds of 1/2.
    assert metrics.effective_robustness_pct(50, 40, slope, intercept) == pytest.approx(40 - 100 / 3)
    for x, y in zip(clean, shifted, strict=True):
        assert metrics.effective_robustness_pct(x, y, slope, intercept) == pytest.approx(0, abs=1e-9)
    assert math.isfinite(metrics.effective_robustness_pct(100, 0, slope, intercept))


def test_shape_bias():
    # Of six decisions two are for the shape, one for the texture, two for neither; the last shows no conflict.
    predicted, shape, texture = np.array([0, 1, 2, 5, 5, 0]), np.array([0, 1, 0, 0, 0, 0]), np.array([1, 0, 2, 1, 2, 0])
    bias = metrics.shape_bias(predicted, shape, texture, ['a', 'b', 'c', 'd', 'e', 'f'])
    assert bias['shape_bias_pct'] == pytest.approx(200 / 3)
    assert bias['shape_bias_by_class'] == {'a': pytest.approx(50), 'b': pytest.approx(100)}
    assert bias['shape_bias_counts'] == {'shape': 2, 'texture': 1, 'other': 2}
    neither = metrics.shape_bias(predicted[3:5], shape[3:5], texture[3:5], 'abcdef')
    assert (neither['shape_bias_pct'], neither['shape_bias_by_class']) == (None, {})


def test_texture_class():
    assert metrics.texture_class('stylized/circle/circle12-star3.jpg') == 'star'
    assert metrics.texture_class('airplane/airplane1-elephant10.png') == 'elephant'
    with pytest.raises(ValueError, match='is not named <shape><n>-<texture><m>'):
        metrics.texture_class('stylized/circle/circle_12.jpg')
