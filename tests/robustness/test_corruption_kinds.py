"""Each kind of corruption against its definition, written out plainly here."""

import itertools
import math
from io import BytesIO

import cv2
import numpy as np
import pytest
from photos import photo
from PIL import Image
from scipy import ndimage, stats

from distill.corruptions import blurs, corrupt, digital, draws, frost, frost_source, glass, weather
from distill.corruptions import noise as noises


def assert_equal_levels(found: np.ndarray, expected: np.ndarray, mismatch: float = 0.01) -> None:
    """Compare grey levels with expected ones in floats: never off by more than one, and rarely by one."""
    difference = np.abs(found.astype(int) - np.clip(expected, 0, 255).astype(np.uint8))
    assert difference.max() <= 1
    assert np.mean(difference > 0) < mismatch


# Draws


@pytest.mark.parametrize('shape', [(1,), (7,), (33, 47, 3)])
def test_draws_are_numpys(shape):
    def fresh():
        return np.random.Generator(np.random.SFC64([3, 1]))

    for dtype in (np.uint8, np.uint16, np.uint32):
        expected = fresh().integers(np.iinfo(dtype).max, size=shape, dtype=dtype, endpoint=True)
        np.testing.assert_array_equal(draws.bits(fresh(), shape, dtype), expected)
    for limit in (4, 16, 36, 64, 200):  # Of 36 and 200 some bytes are refused.
        expected = fresh().integers(limit, size=shape, dtype=np.uint8)
        np.testing.assert_array_equal(draws.below(fresh(), limit, shape), expected)
    np.testing.assert_array_equal(draws.unit(fresh(), shape), fresh().random(shape, dtype=np.float32))


# Noise


@pytest.mark.parametrize(('severity', 'deviation'), [(1, 0.08), (3, 0.18)])
def test_gaussian_noise_moments(severity, deviation):
    grey = np.full((4, 64, 64, 3), 128, np.uint8)
    noise = corrupt(grey, 'gaussian_noise', severity, range(4)).astype(float) - 128
    # Dropping the fraction takes half a level off.
    assert noise.mean() == pytest.approx(-0.5, abs=4 * 255 * deviation / math.sqrt(grey.size))
    assert noise.std() == pytest.approx(255 * deviation, rel=0.02)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.03


def test_normal_is_normal():
    sample = draws.normal(np.random.default_rng(0), (200_000,))
    assert stats.kstest(sample, 'norm').pvalue > 0.01
    assert stats.kurtosis(sample) == pytest.approx(0, abs=0.05)


def test_speckle_noise_is_in_proportion_to_the_level():
    batch = np.stack([np.full((64, 64, 3), level, np.uint8) for level in (0, 50, 100)])
    black, dark, light = corrupt(batch, 'speckle_noise', 1, range(3)).astype(float)
    assert black.max() == 0
    assert dark.std() == pytest.approx(50 * 0.15, rel=0.03)
    assert light.std() == pytest.approx(100 * 0.15, rel=0.03)


@pytest.mark.parametrize('photons', [60, 25, 12, 5, 3])
def test_shot_noise_tables_are_poisson(photons):
    sides, threshold, grey = noises.photon_tables(photons)
    stay = threshold.reshape(256, sides) / 2**32
    grey = grey.reshape(256, sides, 2)
    for level in (0, 1, 77, 200, 255):
        chance = np.zeros(256)
        np.add.at(chance, grey[level, :, 0], stay[level] / sides)
        np.add.at(chance, grey[level, :, 1], (1 - stay[level]) / sides)
        expected = np.zeros(256)
        counts = np.arange(200)
        levels = np.floor(255 * np.minimum(counts / photons, 1)).astype(int)
        np.add.at(expected, levels, stats.poisson.pmf(counts, photons * level / 255))
        np.testing.assert_allclose(chance, expected, atol=1e-7)


def test_shot_noise_moments():
    grey = np.full((2, 64, 64, 3), 51, np.uint8)
    out = corrupt(grey, 'shot_noise', 2, [0, 1]).astype(float)
    # 51 / 255 of 25 photons: 5 photons of 10.2 levels each.
    assert out.mean() == pytest.approx(51 - 0.4, abs=0.6)
    assert out.std() == pytest.approx(math.sqrt(5) * 10.2, rel=0.02)


def test_impulse_noise_hits_its_share():
    grey = np.full((2, 64, 64, 3), 128, np.uint8)
    out = corrupt(grey, 'impulse_noise', 5, [0, 1])
    assert set(np.unique(out)) == {0, 128, 255}
    bound = 4 * math.sqrt(0.135 / grey.size)
    assert np.mean(out == 0) == pytest.approx(0.135, abs=bound)
    assert np.mean(out == 255) == pytest.approx(0.135, abs=bound)


# Blurs


@pytest.mark.parametrize(('severity', 'sigma'), [(1, 1), (5, 6)])
def test_gaussian_blur(images, severity, sigma):
    expected = 255 * ndimage.gaussian_filter(images[0] / 255, (sigma, sigma, 0), mode='nearest', truncate=4)
    assert_equal_levels(corrupt(images[:1], 'gaussian_blur', severity, [0])[0], expected)


@pytest.mark.parametrize(('severity', 'radius', 'blur'), [(1, 3, 0.1), (3, 6, 0.5), (5, 10, 0.5)])
def test_defocus_blur(images, severity, radius, blur):
    reach = max(radius, 8)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            kernel[y + reach, x + reach] = x * x + y * y <= radius * radius
    size = 3 if radius <= 8 else 5
    kernel = cv2.GaussianBlur(kernel / kernel.sum(), (size, size), blur)
    expected = 255 * ndimage.correlate(images[0] / 255, kernel[..., None].astype(float), mode='mirror')
    assert_equal_levels(corrupt(images[:1], 'defocus_blur', severity, [0])[0], expected)


def test_glass_blur_copies_where_the_original_means_to_swap():
    x, sigma, reach, iterations = photo(32, 40), 0.9, 2, 3
    deltas = np.random.default_rng(0).integers(-reach, reach, (iterations, 28, 36, 2))
    expected = (255 * ndimage.gaussian_filter(x / 255, (sigma, sigma, 0), mode='nearest')).astype(np.uint8)
    for delta in deltas:
        for h in range(32 - reach, reach, -1):
            for w in range(40 - reach, reach, -1):
                dy, dx = delta[h - reach - 1, w - reach - 1]
                expected[h, w], expected[h + dy, w + dx] = expected[h + dy, w + dx], expected[h, w]
    expected = 255 * ndimage.gaussian_filter(expected / 255, (sigma, sigma, 0), mode='nearest')
    found = glass.glass_blur_from(x, sigma, reach, deltas[..., 0] * 40 + deltas[..., 1])
    np.testing.assert_array_equal(found, np.clip(expected, 0, 255).astype(np.uint8))


def plain_motion(x: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """ImageMagick's, pixel by pixel."""
    height, width = x.shape[:2]
    weights = [math.exp(-i * i / (2 * sigma * sigma)) for i in range(2 * radius + 1)]
    out = np.zeros(x.shape)
    for i, weight in enumerate(weights):
        dy = math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        dx = math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        rows = np.clip(np.arange(height) + dy, 0, height - 1)
        columns = np.clip(np.arange(width) + dx, 0, width - 1)
        out += weight / sum(weights) * x[rows][:, columns]
    return out


@pytest.mark.parametrize('angle', [-120.0, -44.0, 0.0, 17.0, 45.0])
def test_motion(images, angle):
    x = images[0].astype(np.float32)
    np.testing.assert_allclose(blurs.motion(x, 15, 8, angle), plain_motion(x, 15, 8, angle), atol=1e-3)


def test_correlate_by_bands_is_one_sum(images):
    x = images[0].astype(np.float32)
    rng = np.random.default_rng(0)
    kernel = (rng.random((30, 25)) < 0.1) * rng.random((30, 25))  # Some rows are empty.
    kernel[[0, 4, 29]] = 0
    found = blurs.correlate(x, kernel.astype(np.float32), 7, 21, cv2.BORDER_REPLICATE)
    expected = ndimage.correlate(x.astype(float), kernel[..., None], mode='nearest', origin=(-8, 9, 0))
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_motion_longer_than_the_image_does_not_darken_it():
    grey = np.full((1, 32, 32, 3), 200, np.uint8)
    assert (corrupt(grey, 'motion_blur', 5, [0]) == 200).all()


def plain_zoom(x: np.ndarray, factor: float) -> np.ndarray:
    height, width = (math.ceil(size / factor) for size in x.shape[:2])
    top, left = (x.shape[0] - height) // 2, (x.shape[1] - width) // 2
    crop = x[top : top + height, left : left + width]
    return ndimage.zoom(crop, (factor, factor, 1), order=1)[: x.shape[0], : x.shape[1]]


@pytest.mark.parametrize(('severity', 'factors'), [(1, np.arange(1, 1.11, 0.01)), (5, np.arange(1, 1.31, 0.03))])
def test_zoom_blur(images, severity, factors):
    x = images[0].astype(float)
    expected = (x + sum(plain_zoom(x, factor) for factor in factors)) / (len(factors) + 1)
    # What is a whole level but for the rounding is one here; the original's float32 is free either way.
    assert_equal_levels(corrupt(images[:1], 'zoom_blur', severity, [0])[0], expected + 1e-6)


# Weather


def test_snow(images):
    x = images[0]
    noise = np.random.default_rng(0).normal(0.55, 0.3, x.shape[:2])
    layer = ndimage.zoom(noise[18:30, 24:40], 4, order=1)
    layer[layer < 0.9] = 0
    layer = np.round(255 * plain_motion(np.clip(layer, 0, 1), 12, 8, -100.0)) / 255
    single = x.astype(np.float32) / 255
    grey = cv2.cvtColor(single, cv2.COLOR_RGB2GRAY)[..., None]
    white = 0.7 * single + (1 - 0.7) * np.maximum(single, 1.5 * grey + 0.5)
    expected = 255 * np.clip(white + layer[..., None] + np.rot90(layer, 2)[..., None], 0, 1)
    found = weather.snow_from(x, (4, 0.9, 12, 8, 0.7), noise, -100.0)
    np.testing.assert_array_equal(found, expected.astype(np.uint8))


def test_plasma_is_diamond_square():
    draws = np.random.default_rng(0).uniform(-1, 1, (200,)).astype(np.float32).tolist()
    remaining = iter(draws)
    found = weather.plasma(
        8, 2, lambda shape: np.array([next(remaining) for _ in range(math.prod(shape))]).reshape(shape)
    )
    remaining, heights, step, amplitude = iter(draws), np.zeros((8, 8)), 8, 100.0**2

    def set_mean(targets, neighbours):
        for y, x in targets:
            total = sum(heights[(y + dy) % 8, (x + dx) % 8] for dy, dx in neighbours)
            heights[y, x] = total / 4 + amplitude * next(remaining)

    while step > 1:
        half = step // 2
        corners, centres = range(0, 8, step), range(half, 8, step)
        cross = [(-half, 0), (half, 0), (0, -half), (0, half)]
        set_mean([(y, x) for y in centres for x in centres], [(a, b) for a in (-half, half) for b in (-half, half)])
        set_mean([(y, x) for y in corners for x in centres], cross)
        set_mean([(y, x) for y in centres for x in corners], cross)
        step, amplitude = half, amplitude / 2**2
    heights = (heights - heights.min()) / (heights - heights.min()).max()
    np.testing.assert_allclose(found, heights, atol=1e-5)


def test_fog_of_known_density():
    x = np.full((32, 32, 3), 51, np.uint8)
    out = corrupt(x[None], 'fog', 1, [0])[0].astype(int)
    # (x + 1.5 m) * max / (max + 1.5) for m between 0 and 1, where max = x = 0.2.
    assert out.min() == pytest.approx(255 * 0.2 * 0.2 / 1.7, abs=1)
    assert out.max() == pytest.approx(255 * 1.7 * 0.2 / 1.7, abs=1)
    assert (out == out[..., :1]).all()


def test_frost_weighs_image_and_texture(images):
    crop = photo(48, 64, seed=9)
    expected = np.minimum(0.8 * images[0].astype(float) + 0.6 * crop, 255)
    np.testing.assert_array_equal(weather.frost_from(images[0], (0.8, 0.6), crop), expected.astype(np.uint8))


def test_frost_uses_the_package_without_importing_it(tmp_path, monkeypatch, images):
    package = tmp_path / 'imagecorruptions'
    (package / 'frost').mkdir(parents=True)
    (package / '__init__.py').write_text('raise RuntimeError')
    for index, name in enumerate(frost.FILES):
        cv2.imwrite(str(package / 'frost' / name), np.full((60, 60, 3), 10 * index, np.uint8))
    monkeypatch.syspath_prepend(tmp_path)
    frost._texture.cache_clear()
    try:
        assert frost_source() == 'imagecorruptions-imaug'
        black = np.zeros((64, 64, 64, 3), np.uint8)
        original, port = (
            {int(image[0, 0, 0]) for image in corrupt(black, 'frost', 1, range(64), definition)}
            for definition in ('imagenet_c', 'imagecorruptions')
        )
        assert original == {0, 4, 8, 12, 16}
        assert port == {0, 4, 8, 12, 16, 20}
    finally:
        frost._texture.cache_clear()


def test_generated_frost_has_the_colours_of_the_real_one():
    for index in (0, 4):
        texture = frost.generated_texture(index)
        mean, deviation = frost.STATISTICS[index]
        np.testing.assert_allclose(texture.mean((0, 1)), mean, atol=3)
        np.testing.assert_allclose(texture.std((0, 1)), deviation, atol=3)


def test_frost_covers_images_larger_than_its_textures():
    assert corrupt(np.zeros((1, 700, 40, 3), np.uint8), 'frost', 5, [0]).mean() > 30


# Digital


@pytest.mark.parametrize(
    ('kind', 'severity', 'colour', 'expected'),
    [
        ('brightness', 2, (102, 51, 0), (153, 76, 0)),
        ('brightness', 5, (0, 0, 0), (127, 127, 127)),
        ('brightness', 5, (100, 200, 50), (127, 255, 63)),
        ('saturate', 1, (200, 100, 100), (200, 170, 170)),
        ('saturate', 3, (100, 200, 150), (0, 200, 100)),
        ('saturate', 4, (255, 255, 255), (255, 229, 229)),
        ('saturate', 5, (0, 0, 0), (0, 0, 0)),
    ],
)
def test_colour_of_a_pixel(kind, severity, colour, expected):
    x = np.full((1, 32, 32, 3), colour, np.uint8)
    assert tuple(corrupt(x, kind, severity, [0])[0, 5, 5].tolist()) == expected


def plain_hsv(pixel: np.ndarray, factor: float, shift: float, added: float) -> list[int]:
    """Change saturation and value of one pixel in HSV, in the order of scikit-image's operations."""
    r, g, b = (int(level) / 255 for level in pixel)
    value, spread = max(r, g, b), max(r, g, b) - min(r, g, b)
    hue = 0.0
    if spread:
        if b == value:
            hue = 4 + (r - g) / spread
        elif g == value:
            hue = 2 + (b - r) / spread
        else:
            hue = (g - b) / spread
        hue = hue / 6 % 1
    saturation = min((spread / value if value else 0.0) * factor + shift, 1)
    value = min(value + added, 1)
    sixth = math.floor(hue * 6)
    f = hue * 6 - sixth
    p, q = value * (1 - saturation), value * (1 - f * saturation)
    t = value * (1 - (1 - f) * saturation)
    levels = [(value, t, p), (q, value, p), (p, value, t), (p, q, value), (t, p, value), (value, p, q)][sixth]
    return [int(255 * level) for level in levels]


@pytest.mark.parametrize(
    ('kind', 'severity', 'change'),
    [
        ('brightness', 2, (1, 0, 0.2)),
        ('brightness', 5, (1, 0, 0.5)),
        ('saturate', 1, (0.3, 0, 0)),
        ('saturate', 3, (2, 0, 0)),
        ('saturate', 5, (20, 0.2, 0)),
    ],
)
def test_colours_to_the_last_bit(kind, severity, change):
    x = photo(48, 40)
    x[:8] = x[:8, :, :1]  # grey
    x[8:16, :, 1] = x[8:16, :, 0]  # two channels alike
    expected = np.array([[plain_hsv(pixel, *change) for pixel in row] for row in x])
    np.testing.assert_array_equal(corrupt(x[None], kind, severity, [0])[0], expected)


@pytest.mark.parametrize(('severity', 'added'), enumerate((0.1, 0.2, 0.3, 0.4, 0.5), start=1))
def test_brightness_of_any_colour_is_that_of_hsv(severity, added):
    # All colours with one of these levels as the largest, in each order of the channels.
    for largest in (51, 204, 255):
        colours = np.indices((largest + 1, largest + 1), dtype=np.uint8)
        planes = (np.full_like(colours[0], largest), *colours)
        for order in itertools.permutations(planes):
            x = np.stack(order, axis=-1)
            expected = digital._change_hsv(x, lambda s, v: (s, np.minimum(v + added, 1)))
            np.testing.assert_array_equal(corrupt(x[None], 'brightness', severity, [0])[0], expected)


def test_brightness_of_pixels_that_have_two_levels_only():
    levels = np.tile(np.arange(256, dtype=np.uint8), (32, 1))
    for largest in (51, 204, 255):
        x = np.stack((np.full_like(levels, largest), levels, levels), axis=-1)[:, : largest + 1]
        expected = digital._change_hsv(x, lambda s, v: (s, np.minimum(v + 0.2, 1)))
        np.testing.assert_array_equal(corrupt(x[None], 'brightness', 2, [0])[0], expected)


def test_contrast(images):
    x = images[0] / 255
    expected = 255 * np.clip((x - x.mean((0, 1))) * 0.3 + x.mean((0, 1)), 0, 1)
    assert_equal_levels(corrupt(images[:1], 'contrast', 2, [0])[0], expected)


@pytest.mark.parametrize(('severity', 'factor'), enumerate((0.6, 0.5, 0.4, 0.3, 0.25), start=1))
@pytest.mark.parametrize(('height', 'width'), [(48, 64), (33, 47), (37, 224)])
def test_pixelate(height, width, severity, factor):
    x = photo(height, width)
    small = Image.fromarray(x).resize((int(width * factor), int(height * factor)), Image.Resampling.BOX)
    expected = np.asarray(small.resize((width, height), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(corrupt(x[None], 'pixelate', severity, [0])[0], expected)


@pytest.mark.parametrize(('severity', 'quality'), [(1, 25), (5, 7)])
def test_jpeg_compression(severity, quality):
    x, file = photo(33, 47), BytesIO()
    Image.fromarray(x).save(file, 'JPEG', quality=quality)
    expected = np.asarray(Image.open(file))
    np.testing.assert_array_equal(corrupt(x[None], 'jpeg_compression', severity, [0])[0], expected)


@pytest.mark.parametrize(('amplitude', 'sigma'), [(12.0, 2.4), (300.0, 40.0)])
def test_displace(images, amplitude, sigma):
    x = images[0]
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 48, 64)).astype(np.float32)
    smooth = [amplitude * ndimage.gaussian_filter(n, sigma, mode='reflect', truncate=3) for n in noise]
    y_x = np.mgrid[:48, :64] + smooth
    expected = np.stack(
        [ndimage.map_coordinates(x[..., c].astype(float), y_x, order=1, mode='reflect') for c in range(3)], -1
    )
    difference = digital.displace(x.astype(np.float32), noise, amplitude, (sigma, sigma)) - expected + 0.5
    # OpenCV interpolates at 32nds of a pixel.
    assert np.abs(difference).mean() < 0.5
    assert abs(difference.mean()) < 0.03
    assert np.percentile(np.abs(difference), 99) < 2


def test_elastic_definitions(images):
    found, port = (
        corrupt(images, 'elastic_transform', 1, range(4), definition)
        for definition in ('imagenet_c', 'imagecorruptions')
    )
    assert (found != port).mean() > 0.5
    # A straight ramp shows the displacements: the original's move the image as a whole, the port's do not.
    ramp = np.tile(np.arange(0, 256, 2, dtype=np.uint8)[None, :, None], (128, 1, 3))[None].repeat(8, 0)
    found, port = (
        corrupt(ramp, 'elastic_transform', 2, range(8), definition).astype(int) - ramp
        for definition in ('imagenet_c', 'imagecorruptions')
    )
    middle = np.s_[:, 32:96, 32:96]
    assert np.abs(found[middle].mean((1, 2, 3))).max() > 6
    assert np.abs(port[middle].mean((1, 2, 3))).max() < 2
