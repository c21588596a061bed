"""What all corruptions have in common: seeds, types, severities, and arguments that are refused."""

import importlib.util
import math

import numpy as np
import pytest
import torch
from photos import photo
from scipy.ndimage import gaussian_filter

from distill.base.records import cells_of
from distill.benchmarks import corruptions as benchmark
from distill.corruptions import (
    DETERMINISTIC,
    EXTRA_KINDS,
    KINDS,
    SEVERITIES,
    check_choices,
    corrupt,
    generator,
    glass,
)

ALL = KINDS + EXTRA_KINDS


@pytest.mark.parametrize('kind', ALL)
@pytest.mark.parametrize('size', [(32, 32), (33, 47)])
def test_an_image_depends_on_its_seed_and_not_on_its_batch(kind, size):
    batch = np.stack([photo(*size, seed) for seed in range(3)])
    for severity in SEVERITIES:
        seeds = [(7, 0), (7, 1), (7, 2)]
        out = corrupt(batch, kind, severity, seeds)
        assert out.shape == batch.shape
        assert out.dtype == np.uint8
        assert (out != batch).mean() > 0.01
        np.testing.assert_array_equal(corrupt(batch[[2, 0]], kind, severity, [seeds[2], seeds[0]]), out[[2, 0]])
        again = corrupt(batch, kind, severity, [(8, 0), (8, 1), (8, 2)])
        assert np.array_equal(again, out) == (kind in DETERMINISTIC)


@pytest.mark.parametrize('kind', ALL)
def test_torch_equals_numpy(images, kind):
    out = corrupt(images, kind, 3, range(4))
    from_torch = corrupt(torch.from_numpy(images).permute(0, 3, 1, 2), kind, 3, range(4))
    assert from_torch.dtype == torch.uint8
    assert from_torch.is_contiguous()
    np.testing.assert_array_equal(from_torch.permute(0, 2, 3, 1).numpy(), out)


# The error of the others need not grow: snow, frost, fog and elastic change character between severities, glass trades
# reach for iterations, spatter turns to mud, and saturate drains colour before it adds any.
GROWING = sorted(set(ALL) - {'snow', 'frost', 'fog', 'elastic_transform', 'glass_blur', 'spatter', 'saturate'})


@pytest.mark.parametrize('kind', GROWING)
def test_severity_grows(kind):
    batch = np.stack([photo(64, 64, seed) for seed in range(12)])
    errors = [
        np.mean((corrupt(batch, kind, severity, range(12)).astype(float) - batch) ** 2) for severity in SEVERITIES
    ]
    assert errors == sorted(errors)


def test_streams_differ_between_kinds_severities_and_images():
    draws = {
        generator(seed, kind, severity).integers(1 << 62)
        for seed in (0, (0, 1), (1, 0), (0, 0, 1))
        for kind in ALL
        for severity in SEVERITIES
    }
    assert len(draws) == 4 * 19 * 5


def test_agreement_of_the_benchmark(images):
    shifted = images.copy()
    shifted[images < 100] += 2
    share = 100 * np.mean(shifted != images)
    assert benchmark._agreement(images, shifted, images, 'contrast') == {
        'mismatch_pct': pytest.approx(share),
        'mismatch_above_1_pct': pytest.approx(share),
    }
    weak, strong = (corrupt(images, 'impulse_noise', severity, range(4)) for severity in (1, 3))
    assert benchmark._agreement(images, weak, weak, 'impulse_noise')['spectrum_ratio'] == pytest.approx(1)
    agreement = benchmark._agreement(images, strong, weak, 'impulse_noise')
    # Three times as many hits: the power of white noise is in proportion to them.
    assert agreement['rms_ratio'] == pytest.approx(math.sqrt(3), rel=0.1)
    assert agreement['spectrum_ratio'] == pytest.approx(math.sqrt(3), rel=0.3)


@pytest.mark.skipif(importlib.util.find_spec('imagecorruptions') is not None, reason='the peer is installed')
def test_benchmark_asks_for_the_peer(images):
    with pytest.raises(ValueError, match='pip install imagecorruptions-imaug'):
        benchmark.benchmark_corruptions(images)


def test_choices_are_those_of_a_cell():
    for cell in cells_of(ALL):
        check_choices(cell.kind, np.int64(cell.severity))
    with pytest.raises(ValueError, match='severity True is unknown'):
        check_choices('fog', True)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'kind': 'fogg'}, r"corruption 'fogg' is unknown; choose from brightness, contrast, defocus_blur"),
        ({'severity': 6}, r'severity 6 is unknown; choose from 1, 2, 3, 4, 5'),
        ({'severity': 1.0}, r'severity 1\.0 is unknown'),
        ({'definition': 'mine'}, r"definition 'mine' is unknown; choose from imagenet_c, imagecorruptions"),
        ({'seeds': [0]}, r'1 seeds for 2 images'),
        ({'images': np.zeros((2, 31, 64, 3), np.uint8)}, r'31x64 pixels are too small.*32x32'),
        ({'images': np.zeros((2, 32, 32, 3), np.float32)}, r'float32 \[2, 32, 32, 3\]; expected numpy uint8'),
        ({'images': np.zeros((2, 32, 32, 1), np.uint8)}, r'expected numpy uint8 \[B, H, W, 3\]'),
        ({'images': np.zeros((32, 32, 3), np.uint8)}, r'expected numpy uint8'),
        ({'images': torch.zeros(2, 32, 32, 3, dtype=torch.uint8)}, r'expected torch uint8 \[B, 3, H, W\]'),
        ({'images': [[1]]}, r'images are a list; expected a numpy array or a torch tensor'),
    ],
)
def test_mistakes_are_named(changes, message):
    arguments = {'images': np.zeros((2, 32, 32, 3), np.uint8), 'kind': 'fog', 'severity': 1, 'seeds': [0, 1]}
    with pytest.raises(ValueError, match=message) as error:
        corrupt(**arguments | changes)
    assert '\n' not in str(error.value)


def test_the_gaussian_of_glass_blur_is_scipys_to_the_bit():
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(7, axis=0).repeat(9, axis=1)
    ramp = np.tile(np.arange(0, 128, 2, dtype=np.uint8)[None, :, None], (40, 1, 3))
    noise = rng.integers(0, 256, (33, 40, 3), np.uint8)
    # Flat areas are the hard ones: their sums are whole levels up to the last bit.
    flat = [np.full((20, 20, 3), level, np.uint8) for level in range(0, 256, 5)]
    for sigma in (0.7, 0.9, 1, 1.1, 1.5):
        for x in (blocks, ramp, noise, *flat):
            expected = gaussian_filter(x / 255, (sigma, sigma, 0), mode='nearest', truncate=4) * 255
            found = glass.exact_gaussian(x, sigma)
            assert np.array_equal(found, np.minimum(expected, 255).astype(np.uint8)), sigma
