"""PRIME: an image mixed with chains of random filters, colour curves and warps of maximum entropy.

Source: Modas et al., "PRIME: A Few Primitives Can Boost Robustness to Common Corruptions", ECCV 2022, with the
parameters of its public code. Chains c_1, …, c_k have one to three primitives each, drawn anew; w from Dirichlet(1), m
from Beta(1, 1), ``x' = (1 − m) x + m Σ_i w_i c_i(x)``. For an image x of values in [0, 1] the primitives are

- a filter: ``clip(x * (δ + σ W))``, W a kernel of normal weights, one for all channels, σ ~ U(0, ``filter_sigma``);
- a colour curve: ``clip(x + √T Σ_k β_k sin(k π x))``, β ~ N(0, 1) for each channel, T ~ U(0,
  ``colour_temperature``), frequencies k up to K ~ U{1, …, ``colour_cut``}, of which a band of ``colour_band`` is taken;
- a warp: displacements ``√T Σ C_ij / √(i² + j²) sin(i π u) sin(j π v)`` of the side, i² + j² < (c + ½)², C ~ N(0, 1).
  The temperature T goes from that of a typical displacement of half a pixel, ``1 / (π n² ln c)``, to where the map
  stops being one to one, ``4 / (π³ c² ln c)`` (Petrini et al., "Relative stability toward diffeomorphisms indicates
  performance in deep nets", NeurIPS 2021).

Differs from the public code: grey levels are rounded to uint8 after each primitive, so that a curve is a table of 256
entries; the filter's identity sits in the middle of its kernel, where that of the code sits in a corner, and the edge
is repeated, not black; images need not be square, and n is the shorter side.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

LEAST_CUT = 2
"""Smallest frequency at which a warp is cut off."""


@dataclass(frozen=True)
class Prime:
    """Settings of PRIME; the defaults are those for ImageNet but for ``warp_cut``, which is 500 there.

    For images of 32 pixels the source has ``colour_cut=100, colour_temperature=0.01, colour_band=None``.

    Attributes:
        width: Chains k.
        depth: Most primitives of a chain, which has 1 to that many.
        kernel_size: Side of the filter in pixels, odd.
        filter_sigma: Largest deviation σ of the filter's weights.
        colour_cut: Largest frequency of a colour curve.
        colour_temperature: Largest temperature T of a colour curve.
        colour_band: Frequencies of a curve, one after the other; None takes all up to the drawn cut.
        warp: Share of the range of the warp's temperature that is drawn from; 0 leaves the warp out, which alone moves
            pixels.
        warp_cut: Largest frequency of a warp, of which more than the image has pixels are none.

    Raises:
        ValueError: A setting is out of range.
    """

    width: int = 3
    depth: int = 3
    kernel_size: int = 3
    filter_sigma: float = 4.0
    colour_cut: int = 500
    colour_temperature: float = 0.05
    colour_band: int | None = 20
    warp: float = 1.0
    warp_cut: int = 100

    def __post_init__(self):
        counts = (self.width, self.depth, self.kernel_size, self.colour_cut, self.colour_band or 1)
        least = min(self.filter_sigma, self.colour_temperature, self.warp)
        if min(counts) < 1 or self.kernel_size % 2 == 0 or least < 0 or self.warp > 1 or self.warp_cut <= LEAST_CUT:
            raise ValueError(
                f'{self} is impossible; give counts of at least 1, an odd kernel_size, strengths of at least 0, warp '
                f'of at most 1 and warp_cut above {LEAST_CUT}'
            )

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mix an image, uint8 [H, W, 3]."""
        weights = rng.dirichlet(np.ones(self.width))
        share = rng.beta(1, 1)
        mixed = np.float32(1 - share) * x
        for weight in weights.tolist():
            chain = x
            for _ in range(rng.integers(1, self.depth + 1)):
                chain = self._primitive(chain, rng)
            cv2.scaleAdd(chain.astype(np.float32), share * weight, mixed, mixed)
        return _to_uint8(mixed)

    def _primitive(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One primitive, each as likely as the others."""
        kind = rng.integers(3 if self.warp else 2)
        if kind == 0:
            return filtered(x, rng.uniform(0, self.filter_sigma) * rng.standard_normal((self.kernel_size,) * 2))
        if kind == 1:
            cut = int(rng.integers(1, self.colour_cut + 1))
            first, last = 1, cut
            if self.colour_band is not None:
                first = int(rng.integers(1, cut + 1))
                last = min(first + self.colour_band - 1, cut)
            scale = math.sqrt(rng.uniform(0, self.colour_temperature))
            return recoloured(x, first, scale * rng.standard_normal((last - first + 1, x.shape[2])))
        side = min(x.shape[:2])
        most = int(rng.integers(LEAST_CUT + 1, self.warp_cut + 1))
        cut = min(int(rng.integers(LEAST_CUT, most + 1)), side)
        low, high = temperatures(side, cut)
        temperature = rng.uniform(low, max(low, self.warp * high))
        return warped(x, math.sqrt(temperature) * rng.standard_normal((2, cut, cut)))


def filtered(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Convolve an image with the identity plus a kernel.

    Args:
        x: Image [H, W, 3], uint8.
        weights: What is added to the identity [K, K], K odd.
    """
    kernel = weights.astype(np.float32)
    kernel[len(kernel) // 2, len(kernel) // 2] += 1
    return _to_uint8(cv2.filter2D(x, cv2.CV_32F, kernel, borderType=cv2.BORDER_REPLICATE))


def recoloured(x: np.ndarray, first: int, coefficients: np.ndarray) -> np.ndarray:
    """Add a sum of sines of the grey level, whose ends stay where they are.

    Args:
        x: Image [H, W, 3], uint8.
        first: Lowest frequency.
        coefficients: Amplitudes [frequencies, 3] of a range of levels from 0 to 1.
    """
    last = first + len(coefficients) - 1
    table = np.arange(256)[:, None] + 255 * (_sines(_enough(last))[:, first - 1 : last] @ coefficients)
    return cv2.LUT(x, _to_uint8(table.astype(np.float32))[None])


def warped(x: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Displace the pixels by a smooth field that is 0 at the edge.

    Args:
        x: Image [H, W, 3], uint8.
        coefficients: Of the modes of dy and dx [2, cut, cut], in units of the side; those with i² + j² ≥ (cut + ½)² are
            not used, the others are divided by √(i² + j²).
    """
    height, width = x.shape[:2]
    cut = coefficients.shape[1]
    rows, columns = (_modes(side, _enough(cut))[:, :cut] for side in (height, width))
    dy, dx = rows @ (coefficients * _weights(cut)).astype(np.float32) @ columns.T
    dy = np.arange(height, dtype=np.float32)[:, None] - height * dy
    dx = np.arange(width, dtype=np.float32) - width * dx
    return cv2.remap(x, dx, dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def temperatures(side: int, cut: int) -> tuple[float, float]:
    """The least and the largest temperature of a warp.

    Args:
        side: Of the image, in pixels.
        cut: Largest frequency, at least 2.
    """
    return 1 / (math.pi * side**2 * math.log(cut)), 4 / (math.pi**3 * cut**2 * math.log(cut))


def _to_uint8(x: np.ndarray) -> np.ndarray:
    """Round grey levels in float32 and clip them."""
    return cv2.convertScaleAbs(np.maximum(x, 0, out=x))


def _enough(count: int) -> int:
    """The power of two from `count` on: of so many frequencies a table is made, and kept."""
    return 1 << (count - 1).bit_length()


@lru_cache(maxsize=16)
def _sines(count: int) -> np.ndarray:
    """sin(k π x) at the 256 grey levels, k from 1 on [256, count]."""
    return np.sin(np.pi * np.arange(256)[:, None] / 255 * np.arange(1, count + 1))


@lru_cache(maxsize=64)
def _modes(side: int, count: int) -> np.ndarray:
    """sin(k π u) of the pixels of a line, u from 0 to 1 and k from 1 on [side, count]."""
    return np.sin(np.pi * np.linspace(0, 1, side)[:, None] * np.arange(1, count + 1)).astype(np.float32)


@lru_cache(maxsize=128)
def _weights(cut: int) -> np.ndarray:
    """1 / √(i² + j²) of the modes that are used, 0 of the others [cut, cut]."""
    squares = np.arange(1, cut + 1) ** 2
    length = np.sqrt(squares[:, None] + squares)
    return (length < cut + 0.5) / length
