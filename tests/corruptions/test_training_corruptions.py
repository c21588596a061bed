"""What students train on: mixtures by hand, seeds, and kinds that are refused."""

import math

import numpy as np
import pytest

from distill.corruptions import EXTRA_KINDS, KINDS
from distill.corruptions.augmix import COLOURS, GEOMETRY, AugMix
from distill.corruptions.further import FURTHER, hue, posterize, white_balance
from distill.corruptions.prime import Prime, filtered, recoloured, temperatures, warped
from distill.corruptions.training import DEFAULT_KINDS, TrainingCorruption, build_corruption

MIXTURES = [AugMix(), AugMix(geometry=False), Prime(), Prime(colour_cut=100, colour_band=None), Prime(warp=0)]


@pytest.fixture(scope='module')
def image() -> np.ndarray:
    """Smooth colours with a square on them, uint8 [40, 52, 3]."""
    y, x = np.mgrid[:40, :52]
    shown = np.stack([4 * x, 5 * y, 255 - 2 * (x + y)], axis=2).clip(0, 255).astype(np.uint8)
    shown[10:25, 20:40] = (250, 20, 90)
    return shown


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize('mixture', MIXTURES)
def test_a_mixture_follows_from_its_generator_and_stays_near_the_image(mixture, image):
    kept = image.copy()
    found = [mixture(image, rng(seed)) for seed in range(12)]
    assert np.array_equal(image, kept)
    assert {(one.shape, one.dtype) for one in found} == {(image.shape, np.dtype(np.uint8))}
    assert np.array_equal(mixture(image, rng(3)), found[3])
    assert len({one.tobytes() for one in found}) > 9
    # With weights that are even on the mean, the image itself keeps about half.
    close = [np.corrcoef(image.ravel(), one.ravel())[0, 1] for one in found]
    assert np.median(close) > 0.5


def test_augmix_leaves_the_runs_generators_alone_and_takes_the_papers_operations():
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    # On one grey level nothing but solarising and posterising has an effect: 160 = 0b10100000 has four leading bits.
    grey = np.full((32, 32, 3), 160, np.uint8)
    for seed in range(8):
        assert np.abs(AugMix(severity=0, geometry=False)(grey, rng(seed)).astype(int) - 160).max() <= 1
    assert np.random.rand() == expected
    left_out = ('Color', 'Contrast', 'Brightness', 'Sharpness')
    assert not [name for name in COLOURS + GEOMETRY if name.startswith(left_out)]


def test_prime_without_strength_is_the_identity(image):
    still = Prime(filter_sigma=0, colour_temperature=0, warp=0)
    for seed in range(5):
        assert np.array_equal(still(image, rng(seed)), image)


def test_a_filter_is_the_identity_plus_its_weights(image):
    assert np.array_equal(filtered(image, np.zeros((3, 3))), image)
    weights = np.zeros((3, 3))
    weights[1, 0], weights[1, 1] = 1, -1  # The pixel to the left in place of the pixel itself.
    assert np.array_equal(filtered(image, weights)[:, 1:], image[:, :-1])
    assert np.array_equal(filtered(image, weights)[:, 0], image[:, 0])
    weights[:] = 0
    weights[1, 1] = 1
    assert np.array_equal(filtered(image, weights), np.minimum(2 * image.astype(int), 255))


def test_a_colour_curve_adds_sines_of_the_level(image):
    amplitudes = np.array([[0.1, 0.0, -0.2], [0.05, 0.0, 0.0]])
    found = recoloured(image, 3, amplitudes)
    x = image / 255
    expected = x + amplitudes[0] * np.sin(3 * np.pi * x) + amplitudes[1] * np.sin(4 * np.pi * x)
    assert np.abs(found - 255 * expected.clip(0, 1)).max() <= 0.51
    assert np.array_equal(found[..., 1], image[..., 1])
    ends = np.zeros((32, 32, 3), np.uint8)
    ends[16:] = 255
    assert np.array_equal(recoloured(ends, 1, rng(0).normal(size=(9, 3))), ends)


def test_a_warp_moves_pixels_by_its_modes():
    # One mode alone: the middle of the image is moved by the whole amplitude, the edge not at all.
    height, width = 41, 61
    ramp = np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None], (height, width, 3)).copy()
    coefficients = np.zeros((2, 4, 4))
    coefficients[1, 0, 0] = 3 / width * math.sqrt(2)  # 3 pixels of dx, divided by √(1² + 1²).
    found = warped(ramp, coefficients)
    assert found[20, 30, 0] == 27
    assert np.array_equal(found[:, [0, -1]], ramp[:, [0, -1]])
    assert np.array_equal(found[[0, -1]], ramp[[0, -1]])
    # Modes beyond the cut are left out: 4² + 4² > 4.5².
    coefficients[:] = 0
    coefficients[:, 3, 3] = 9
    assert np.array_equal(warped(ramp, coefficients), ramp)


def test_the_temperatures_of_a_warp_are_half_a_pixel_and_the_end_of_one_to_one():
    # The typical displacement in the middle is n √(π T ln c) / 2 pixels.
    for side, cut in ((32, 3), (224, 100)):
        low, high = temperatures(side, cut)
        assert side * math.sqrt(math.pi * low * math.log(cut)) / 2 == pytest.approx(0.5)
        assert high * math.pi**3 * cut**2 * math.log(cut) == pytest.approx(4)


def test_further_kinds_by_hand():
    shown = np.array([[[0b10110111, 0, 255], [200, 100, 50]]], np.uint8)
    assert posterize(shown, 3, rng())[0, 0].tolist() == [0b10100000, 0, 0b11100000]
    assert np.array_equal(hue(shown, 0, rng()), shown)
    assert np.array_equal(white_balance(shown, 0, rng()), shown)
    balanced = white_balance(np.full((1, 1, 3), 100, np.uint8), 0.2, rng(2))[0, 0].astype(float)
    assert balanced.std() > 3
    assert np.prod(balanced / 100) == pytest.approx(1, abs=0.02)
    turned = hue(np.array([[[200, 40, 40]]], np.uint8), 0.5, rng(4))[0, 0]
    assert (turned.max(), turned.min()) == pytest.approx((200, 40), abs=3)


def test_an_image_follows_from_its_seed_alone(image):
    corruption = TrainingCorruption(kinds=('holdout', *FURTHER, 'augmix', 'prime'), copies=2)
    first = corruption.copies_of(image, (0, 1, 2))
    for seed in range(20):
        corruption(image, (0, 5, seed))
    assert np.array_equal(corruption.copies_of(image, (0, 1, 2)), first)
    assert first.shape == (2, *image.shape)
    assert (first[0] != first[1]).any()
    others = [corruption(image, seed) for seed in ((1, 1, 2, 0), (0, 2, 2, 0), (0, 1, 3, 0))]
    assert all((other != first[0]).any() for other in others)


def test_all_kinds_and_severities_are_drawn_and_a_share_is_left_alone(image):
    corruption = TrainingCorruption(kinds=('posterize',), severities=(1, 5), share=0.75)
    found = [corruption(image, (0, seed)) for seed in range(400)]
    kinds = [posterize(image, bits, rng()).tobytes() for bits in (5, 1)] + [image.tobytes()]
    counts = [sum(one.tobytes() == kind for one in found) for kind in kinds]
    assert sum(counts) == 400
    np.testing.assert_allclose(counts, [150, 150, 100], atol=35)


def test_no_kind_of_the_benchmark_is_among_the_defaults():
    assert TrainingCorruption().kinds == DEFAULT_KINDS
    assert set(EXTRA_KINDS) <= set(DEFAULT_KINDS)
    assert not set(KINDS) & set(DEFAULT_KINDS)
    assert TrainingCorruption(kinds=('noise', 'prime'), allow_benchmark=True).seen == [*KINDS[:3], 'prime']


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (
            dict(kinds=('prime', 'fog')),
            "corruption 'fog' is one of the kinds that students are judged by; choose",
        ),
        (dict(kinds='noise'), 'or set allow_benchmark=True, which marks the results'),
        (dict(kinds=('frog',)), "corruption 'frog' is unknown; choose from augmix, "),
        (dict(kinds=()), "corruption '' is unknown"),
        (dict(severities=(0, 1)), r'severities are \(0, 1\); choose from 1, 2, 3, 4, 5'),
        (dict(share=2), 'share is 2 and copies 1; give 0 to 1, and 1 or more'),
        (dict(prime=dict(strength=1)), "prime has no setting 'strength'; choose from width, depth"),
        (dict(prime=dict(kernel_size=2)), 'an odd kernel_size'),
        (dict(augmix=dict(width=0)), 'width of at least 1'),
        (dict(severity=1), "dataset.corrupt has no setting 'severity'; choose from kinds, severities"),
        ('prime', "dataset.corrupt is 'prime'; give a dict"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(config, message):
    with pytest.raises(ValueError, match=message) as error:
        build_corruption(config, 'dataset.corrupt')
    assert '\n' not in str(error.value)


def test_without_geometry_mixtures_move_nothing(image):
    corruption = TrainingCorruption(kinds=('augmix', 'prime'), geometry=False, prime=dict(filter_sigma=0))
    # Two halves of one colour each stay two halves of one colour each.
    halves = image.copy()
    halves[:, :26], halves[:, 26:] = (30, 90, 200), (220, 60, 10)
    for seed in range(30):
        found = corruption(halves, (0, seed))
        for half in (found[:, :26], found[:, 26:]):
            assert len(np.unique(half.reshape(-1, 3), axis=0)) == 1
