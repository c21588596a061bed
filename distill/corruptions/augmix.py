"""AugMix: an image mixed with chains of simple operations on it.

Source: Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty", ICLR 2020.
With chains c_1, …, c_k of one to three operations, w from a Dirichlet distribution and m from a Beta distribution, all
with concentration α, ``x' = (1 − m) x + m Σ_i w_i c_i(x)``. The mixing is timm's (`timm.data.auto_augment`); so are the
operations, of which only those of the paper are taken: timm adds colour, contrast, brightness and sharpness, which
the paper leaves out because they come close to the corruptions of ImageNet-C.
"""

import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image
from timm.data.auto_augment import AugMixAugment, augmix_ops

from distill.base.seeding import kept_generators

COLOURS = ('AutoContrast', 'Equalize', 'PosterizeIncreasing', 'SolarizeIncreasing')
GEOMETRY = ('Rotate', 'ShearX', 'ShearY', 'TranslateXRel', 'TranslateYRel')


@dataclass(frozen=True)
class AugMix:
    """Settings of AugMix.

    Attributes:
        severity: Strength of the operations: timm's magnitude, 0 to 10, of which each operation draws up to that much.
        width: Chains k.
        depth: Operations of a chain; 0 draws 1 to 3 for each.
        alpha: Concentration α of the weights.
        geometry: Whether chains may rotate, shear and shift the image, as in the paper.

    Raises:
        ValueError: A setting is out of range.
    """

    severity: int = 3
    width: int = 3
    depth: int = 0
    alpha: float = 1.0
    geometry: bool = True

    def __post_init__(self):
        if not 0 <= self.severity <= 10 or self.width < 1 or self.depth < 0 or not self.alpha > 0:
            raise ValueError(
                f'{self} is impossible; give severity 0 to 10, width of at least 1, depth of at least 0 and alpha '
                'above 0'
            )

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Mix an image, uint8 [H, W, 3]; timm draws from the global generators, which are left as they were."""
        seeds = rng.integers(1 << 32, size=2).tolist()
        with kept_generators():
            random.seed(seeds[0])
            np.random.seed(seeds[1])
            return np.asarray(_mixing(self)(Image.fromarray(x)))


@lru_cache(maxsize=8)
def _mixing(settings: AugMix) -> AugMixAugment:
    names = COLOURS + GEOMETRY if settings.geometry else COLOURS
    # As timm's `create_transform` does: shifts up to 30 % at magnitude 10, a strength drawn evenly up to the magnitude.
    hparams = {'translate_pct': 0.3, 'img_mean': (128, 128, 128), 'magnitude_std': float('inf')}
    ops = augmix_ops(settings.severity, hparams, list(names))
    return AugMixAugment(ops, settings.alpha, settings.width, settings.depth or -1)
