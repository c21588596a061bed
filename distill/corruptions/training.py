"""What a student's images are corrupted by while it trains: kinds at severities, or mixtures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from distill.base.records import EXTRA_KINDS, GROUPS, KINDS, SEVERITIES
from distill.corruptions.augmix import AugMix
from distill.corruptions.further import FURTHER
from distill.corruptions.prime import Prime
from distill.corruptions.table import MIN_SIZE_PX, corrupt

MIXTURES = ('augmix', 'prime')
DEFAULT_KINDS = (*EXTRA_KINDS, *FURTHER)
"""All kinds that no benchmark here is scored on."""
WHOLE = 1 << 32
"""What sets these random numbers apart from others of the same seed, image and view."""


@dataclass(frozen=True)
class TrainingCorruption:
    """Corrupt images that a student trains on; each result follows from the image and a seed alone.

    One of the kinds is drawn for each image, all as likely, and one of the severities. A student that trains on the
    kinds it is judged by proves nothing, so those are refused unless ``allow_benchmark`` is set; results are marked
    then.

    Attributes:
        kinds: Names of `KINDS`, `EXTRA_KINDS` and `distill.corruptions.further.FURTHER`, of groups such as ``holdout``,
            and of mixtures (``augmix``, ``prime``), which have settings of their own in place of severities.
        severities: Severities of the kinds.
        share: Share of the images that are corrupted; the others stay as they are.
        copies: Corrupted copies of a view, each drawn anew.
        augmix: Settings of `AugMix`.
        prime: Settings of `Prime`.
        allow_benchmark: Whether kinds of the benchmark are allowed.
        geometry: Whether mixtures may move what is on the image. Without, boxes and masks hold, and PRIME's warp and
            AugMix's rotations, shears and shifts are left out.

    Raises:
        ValueError: A setting is unknown or out of range, or a kind of the benchmark is not allowed.
    """

    kinds: Sequence[str] = DEFAULT_KINDS
    severities: Sequence[int] = SEVERITIES
    share: float = 1.0
    copies: int = 1
    augmix: Mapping[str, Any] = field(default_factory=dict)
    prime: Mapping[str, Any] = field(default_factory=dict)
    allow_benchmark: bool = False
    geometry: bool = True

    def __post_init__(self):
        named = [self.kinds] if isinstance(self.kinds, str) else self.kinds
        kinds = tuple(dict.fromkeys(kind for name in named for kind in GROUPS.get(name, (name,))))
        known = (*KINDS, *EXTRA_KINDS, *FURTHER, *MIXTURES)
        if unknown := [kind for kind in kinds if kind not in known] or ([] if kinds else ['']):
            raise ValueError(
                f"corruption '{unknown[0]}' is unknown; choose from {', '.join(sorted(known))}, or the groups "
                f'{", ".join(GROUPS)}'
            )
        refused = [kind for kind in kinds if kind in KINDS]
        if refused and not self.allow_benchmark:
            raise ValueError(
                f"corruption '{refused[0]}' is one of the kinds that students are judged by; choose from "
                f'{", ".join((*DEFAULT_KINDS, *MIXTURES))}, or set allow_benchmark=True, which marks the results'
            )
        object.__setattr__(self, 'kinds', kinds)
        object.__setattr__(self, 'severities', _severities(self.severities))
        if not 0 <= self.share <= 1 or isinstance(self.copies, bool) or self.copies < 1:
            raise ValueError(f'share is {self.share} and copies {self.copies}; give 0 to 1, and 1 or more')
        self._mixtures()

    def _mixtures(self) -> tuple[AugMix, Prime]:
        for name, kind in (('augmix', AugMix), ('prime', Prime)):
            known = kind.__dataclass_fields__
            if strange := sorted(getattr(self, name).keys() - known.keys()):
                raise ValueError(f"{name} has no setting '{strange[0]}'; choose from {', '.join(known)}")
        augmix, prime = AugMix(**self.augmix), Prime(**self.prime)
        return (augmix, prime) if self.geometry else (replace(augmix, geometry=False), replace(prime, warp=0))

    def check_side(self, side: int) -> None:
        """Check that images are large enough.

        Args:
            side: Shorter side of the images, in pixels.

        Raises:
            ValueError: They are too small for a kind.
        """
        needing = [kind for kind in self.kinds if kind in KINDS + EXTRA_KINDS]
        if needing and side < MIN_SIZE_PX:
            raise ValueError(
                f"corruption '{needing[0]}' wants images of at least {MIN_SIZE_PX} pixels and these have {side}; "
                f'choose from {", ".join((*FURTHER, *MIXTURES))}'
            )

    @property
    def seen(self) -> list[str]:
        """Names of what students see, as their records tell."""
        return list(self.kinds)

    def __call__(self, image: np.ndarray, seed: Sequence[int]) -> np.ndarray:
        """Corrupt an image.

        Args:
            image: RGB, uint8 [H, W, 3], with sides of at least 32 pixels for the kinds of ImageNet-C.
            seed: Numbers of at least 0 that name the image and its view.

        Returns:
            uint8 [H, W, 3].

        Raises:
            ValueError: The image is too small, or of another type.
        """
        rng = np.random.Generator(np.random.SFC64([*seed, WHOLE]))
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        severity = self.severities[int(rng.integers(len(self.severities)))]
        if rng.random() >= self.share:
            return image
        if kind in MIXTURES:
            augmix, prime = self._mixtures()
            return (augmix if kind == 'augmix' else prime)(image, rng)
        if kind in FURTHER:
            function, constants = FURTHER[kind]
            return function(image, constants[severity - 1], rng)
        return np.asarray(corrupt(image[None], kind, severity, [seed]))[0]

    def copies_of(self, image: np.ndarray, seed: Sequence[int]) -> np.ndarray:
        """Corrupted copies [copies, H, W, 3] of an image [H, W, 3]."""
        return np.stack([self(image, (*seed, number)) for number in range(self.copies)])


def _severities(given: Sequence[int]) -> tuple[int, ...]:
    severities = (given,) if isinstance(given, int) else tuple(given)
    if not severities or not set(severities) <= set(SEVERITIES):
        raise ValueError(f'severities are {given!r}; choose from {", ".join(map(str, SEVERITIES))}')
    return severities


def build_corruption(config: Mapping[str, Any] | None, place: str, **fixed: Any) -> TrainingCorruption | None:
    """Build a corruption from a config; None stays None.

    Args:
        config: Arguments of `TrainingCorruption`.
        place: Key of the config, for errors.
        **fixed: Arguments that the config does not have.

    Raises:
        ValueError: An argument is unknown or impossible.
    """
    if config is None:
        return None
    if not isinstance(config, Mapping):
        raise ValueError(f"{place} is {config!r}; give a dict such as dict(kinds=('prime',)), or None")
    choices = [name for name in TrainingCorruption.__dataclass_fields__ if name not in fixed]
    if unknown := sorted(config.keys() - set(choices)):
        raise ValueError(f"{place} has no setting '{unknown[0]}'; choose from {', '.join(choices)}")
    return TrainingCorruption(**config, **fixed)
