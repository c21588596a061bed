"""The weather of ImageNet-C: snow, frost, fog and, of the extra kinds, spatter.

A corruption takes one image, uint8 [H, W, 3], the constants of a severity and a generator, and returns an
image of the same shape. A function that takes the draws in place of a generator is called ``..._from``.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np

from distill.corruptions.blurs import TOLERANCE, centre, gaussian, motion, motion_line, to_uint8, zoom_matrix
from distill.corruptions.draws import normal, unit
from distill.corruptions.frost import FILES, frost_texture


def snow(x: np.ndarray, constants: tuple, rng: np.random.Generator) -> np.ndarray:
    """Let snow fall; `constants` = mean and deviation of the noise that flakes are made of, then as in `snow_from`."""
    _, _, factor, *rest = constants
    middle, angle = _noise_and_angle(rng, *x.shape[:2], constants)
    noise = np.zeros(x.shape[:2])
    (top, rows), (left, columns) = (centre(size, factor) for size in noise.shape)
    noise[top : top + rows, left : left + columns] = middle
    return snow_from(x, (factor, *rest), noise, angle)


def snow_draws(
    rng: np.random.Generator, height: int, width: int, constants: tuple
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw what `snow` needs.

    Returns:
        Three: the middle of the noise, which is zoomed into, float32 [rows, columns]; dy and dx of the line of pixels
        of the motion.
    """
    *_, radius, sigma, _ = constants
    noise, angle = _noise_and_angle(rng, height, width, constants)
    return noise, *motion_line(radius, sigma, angle)[:2]


def _noise_and_angle(rng: np.random.Generator, height: int, width: int, constants: tuple) -> tuple[np.ndarray, float]:
    """Draw the noise of `snow` and the direction of its motion in degrees.

    The flakes are a zoom into the middle of the noise, so only that is drawn.
    """
    mean, deviation, factor, *_ = constants
    (_, rows), (_, columns) = (centre(size, factor) for size in (height, width))
    return mean + deviation * normal(rng, (rows, columns)), rng.uniform(-135, -45)


def snow_from(x: np.ndarray, constants: tuple, noise: np.ndarray, angle: float) -> np.ndarray:
    """Let snow fall with given draws.

    The result is that of imagecorruptions to the last bit, hence its mixture of single and double precision.

    Args:
        x: Image [H, W, 3], uint8.
        constants: Zoom of the noise, least value of a flake, radius and sigma of the motion in pixels, weight of
            the image against its whitened self.
        noise: Float64 [H, W].
        angle: Direction of the motion in degrees.
    """
    factor, threshold, *line, weight = constants
    height, width = x.shape[:2]
    flakes = zoom_matrix(height, factor) @ noise
    flakes = np.ascontiguousarray((zoom_matrix(width, factor) @ flakes.T).T)
    flakes = np.clip(flakes, 0, 1) * (flakes >= threshold)
    flakes = _fallen(flakes, *line, angle)[:height, :width]
    flakes = cv2.add(flakes, cv2.flip(flakes, -1))
    x = x / np.float32(255)
    white = 1.5 * cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) + 0.5
    white = cv2.max(x, cv2.merge((white, white, white)))
    white *= 1 - weight
    x *= weight
    x += white
    # No level below white is whole in doubles. Flakes are, and can be added to what is left without the fraction.
    return cv2.add(_floor(x), cv2.merge((flakes, flakes, flakes)))


def _fallen(flakes: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Blur by `motion`, in grey levels rounded to the nearest: uint8, as in doubles.

    Single precision tells but for the values near the middle between two levels.
    """
    levels = motion(flakes.astype(np.float32), radius, sigma, angle)
    levels *= 255
    out = np.rint(levels)
    unsure = np.flatnonzero(cv2.absdiff(levels, out) > 0.5 - TOLERANCE)
    dy, dx, weights = motion_line(radius, sigma, angle)
    rows, columns = np.divmod(unsure, flakes.shape[1])
    rows = (rows + dy[:, None]).clip(0, flakes.shape[0] - 1)
    columns = (columns + dx[:, None]).clip(0, flakes.shape[1] - 1)
    exact = np.zeros(len(unsure))
    for weight, value in zip(weights, flakes[rows, columns], strict=True):
        exact += weight * value
    out.put(unsure, np.rint(255 * exact))
    return out.astype(np.uint8)


def _floor(x: np.ndarray) -> np.ndarray:
    """255 times x without the fraction, at most 255, as in doubles; x is float32 of at least 0."""
    levels = 255 * x
    out = to_uint8(levels, 0)
    unsure = np.flatnonzero(cv2.absdiff(levels, np.rint(levels)) < TOLERANCE / 10)
    out.put(unsure, np.minimum(255 * x.take(unsure).astype(float), 255).astype(np.uint8))
    return out


def frost(x: np.ndarray, constants: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Lay a random part of a texture of frost over the image; `constants` = weights of image and texture.

    As in make_imagenet_c.py, whose random index never reaches the last of the six textures.
    """
    return frost_from(x, constants, *frost_draws(rng, *x.shape[:2], constants))


def frost_port(x: np.ndarray, constants: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Lay frost over the image as imagecorruptions does: of all six textures, enlarged by a tenth."""
    return frost_from(x, constants, *frost_port_draws(rng, *x.shape[:2], constants))


def frost_draws(rng: np.random.Generator, height: int, width: int, constants: tuple[float, float]) -> tuple[np.ndarray]:
    """Draw the part of a texture that `frost` lays over an image: uint8 [H, W, 3]."""
    return (_frost_crop(rng, height, width, len(FILES) - 1, enlarge=False),)


def frost_port_draws(
    rng: np.random.Generator, height: int, width: int, constants: tuple[float, float]
) -> tuple[np.ndarray]:
    """Draw the part of a texture that `frost_port` lays over an image: uint8 [H, W, 3]."""
    return (_frost_crop(rng, height, width, len(FILES), enlarge=True),)


def _frost_crop(rng: np.random.Generator, height: int, width: int, textures: int, enlarge: bool) -> np.ndarray:
    texture = frost_texture(int(rng.integers(textures)), height, width, enlarge)
    top = rng.integers(texture.shape[0] - height)
    left = rng.integers(texture.shape[1] - width)
    return texture[top : top + height, left : left + width]


def frost_from(x: np.ndarray, constants: tuple[float, float], crop: np.ndarray) -> np.ndarray:
    """Lay a given crop of a texture, uint8 [H, W, 3], over the image."""
    index = crop.astype(np.uint16)
    index <<= 8
    index |= x
    return frost_table(*constants).take(index)


@lru_cache(maxsize=8)
def frost_table(image_weight: float, frost_weight: float) -> np.ndarray:
    """Weighted sum of two grey levels [256 * frost + image], uint8: in doubles, as it is often a whole number."""
    level = np.arange(256)
    return np.minimum(image_weight * level + frost_weight * level[:, None], 255).astype(np.uint8).ravel()


def plasma(size: int, decay: float, uniform: Callable[[tuple[int, int]], np.ndarray]) -> np.ndarray:
    """Make a height map by the diamond-square algorithm, as the original has it.

    Args:
        size: Side in pixels, a power of two.
        decay: The roughness is divided by it at each halving of the step.
        uniform: Draws an array of a shape, uniform in [-1, 1).

    Returns:
        Heights between 0 and 1, [size, size].
    """
    corners, roughness = np.zeros((1, 1), np.float32), 100.0
    while len(corners) < size:
        # The amplitude is the square of the roughness in the original.
        scale = roughness * roughness

        def wobble(total: np.ndarray, scale: float = scale) -> np.ndarray:
            total *= 0.25
            total += scale * uniform(total.shape)
            return total

        below, right = _rolled(corners, 0), _rolled(corners, 1)
        down = corners + below
        centres = wobble(down + _rolled(down, 1))
        across = wobble(centres + np.concatenate((centres[-1:], centres[:-1])) + corners + right)
        centres_left = np.concatenate((centres[:, -1:], centres[:, :-1]), axis=1)
        along = wobble(centres + centres_left + corners + below)
        heights = np.empty((2 * len(corners), 2 * len(corners)), np.float32)
        heights[::2, ::2], heights[::2, 1::2] = corners, across
        heights[1::2, ::2], heights[1::2, 1::2] = along, centres
        corners, roughness = heights, roughness / decay
    corners -= corners.min()
    corners /= corners.max()
    return corners


def _rolled(x: np.ndarray, axis: int) -> np.ndarray:
    """`np.roll` by one towards the start, in a fifth of its time."""
    return np.concatenate((x[1:], x[:1])) if axis == 0 else np.concatenate((x[:, 1:], x[:, :1]), axis=1)


def plasma_size(height: int, width: int) -> int:
    """Side in pixels of the smallest height map that covers an image."""
    return 1 << (max(height, width) - 1).bit_length()


def fog_draws(rng: np.random.Generator, height: int, width: int, constants: tuple[float, float]) -> tuple[np.ndarray]:
    """Draw the wobbles of the height map of `fog`, one after another: float32 in [-1, 1), [plasma_size²]."""
    draws = 2 * unit(rng, (plasma_size(height, width) ** 2,))
    draws -= 1
    return (draws,)


def fog(x: np.ndarray, constants: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Add fog of a random density; `constants` = (thickness, decay of the roughness)."""
    thickness, decay = constants
    height, width = x.shape[:2]
    (draws,) = fog_draws(rng, height, width, constants)
    used = 0

    def uniform(shape: tuple[int, int]) -> np.ndarray:
        nonlocal used
        used += math.prod(shape)
        return draws[used - math.prod(shape) : used].reshape(shape)

    mist = plasma(plasma_size(height, width), decay, uniform)[:height, :width]
    brightest = x.max() / 255
    scale = brightest / (brightest + thickness)
    mist = (255 * thickness * scale) * mist
    mist += TOLERANCE - 0.5  # As in `to_uint8`.
    return cv2.addWeighted(x, scale, cv2.merge((mist, mist, mist)), 1, 0, dtype=cv2.CV_8U)


def spatter(x: np.ndarray, constants: tuple, rng: np.random.Generator) -> np.ndarray:
    """Add drops of water or mud; `constants` = mean and deviation of the noise, then as in `spatter_from`."""
    mean, deviation, *rest = constants
    return spatter_from(x, rest, mean + deviation * normal(rng, x.shape[:2]))


def spatter_from(x: np.ndarray, constants: Sequence, noise: np.ndarray) -> np.ndarray:
    """Add drops of water or mud with given noise.

    Args:
        x: Image [H, W, 3], uint8.
        constants: Sigma of the blur that makes drops of the noise, least value of a drop, strength (water) or
            sigma of the drops' edges (mud), whether it is mud.
        noise: Float32 [H, W].
    """
    sigma, threshold, strength, mud = constants
    drops = gaussian(noise, sigma)
    drops[drops < threshold] = 0
    if mud:
        cover = gaussian((drops > threshold).astype(np.float32), strength)
        cover[cover < 0.8] = 0
        x, colour = cv2.multiply(x, cv2.merge([1 - cover] * 3), dtype=cv2.CV_32F), (63, 42, 20)
    else:
        cover = _water(drops)
        cover *= strength / max(cover.max(), 1)
        # Pale turquoise, though in the order of channels that the original applies to RGB.
        colour = 175, 238, 238
    return to_uint8(cv2.add(x, cv2.merge([cover * level for level in colour]), dtype=cv2.CV_32F))


def _water(drops: np.ndarray) -> np.ndarray:
    """How much drops of water reflect, unnormalised: embossed by the distance to their outline."""
    drops = (drops * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    distance = cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8)
    relief = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    relief = cv2.filter2D(cv2.equalizeHist(distance), cv2.CV_8U, relief)
    return drops * cv2.blur(relief, (3, 3)).astype(np.float32)
