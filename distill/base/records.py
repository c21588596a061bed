"""A cell of a corrupted suite: one kind of corruption at one severity, and the names of all of them.

This module is light, so that a command's ``--help`` can list the choices. `distill.corruptions` corrupts the
images; `distill.results.cells` is how ``results.json`` holds a score for each cell.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral

SEVERITIES = (1, 2, 3, 4, 5)

KINDS = (
    *('gaussian_noise', 'shot_noise', 'impulse_noise'),
    *('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    *('snow', 'frost', 'fog', 'brightness'),
    *('contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'),
)
"""The kinds that ImageNet-C is scored on, in its order: noise, blur, weather, digital."""

EXTRA_KINDS = ('speckle_noise', 'gaussian_blur', 'spatter', 'saturate')
"""The kinds that ImageNet-C holds out for validation: no summary counts them."""

GROUPS = {
    'benchmark': KINDS,
    'all': KINDS + EXTRA_KINDS,
    'noise': KINDS[:3],
    'blur': KINDS[3:7],
    'weather': KINDS[7:11],
    'digital': KINDS[11:],
    'holdout': EXTRA_KINDS,
}
"""Names for several kinds, as mmdet's robustness test knows them."""

DEFINITIONS = ('imagenet_c', 'imagecorruptions')
"""Whose corruptions are made: those of ImageNet-C, or of its port imagecorruptions, whose elastic and frost differ."""

CORRUPTED_ON = ('cpu', 'device')
"""Where images are corrupted: by the processes that decode them, or where the models run."""


@dataclass(frozen=True)
class Cell:
    """A kind of corruption at one severity.

    `str` writes a cell as ``fog 3``, in files and on screens, and `parse` reads it.

    Attributes:
        kind: Of ``KINDS`` or ``EXTRA_KINDS``.
        severity: Of ``SEVERITIES``.

    Raises:
        ValueError: Kind or severity is unknown.
    """

    kind: str
    severity: int

    def __post_init__(self):
        if self.kind not in KINDS + EXTRA_KINDS:
            raise ValueError(
                f'corruption {self.kind!r} is unknown; choose from {", ".join(sorted(KINDS + EXTRA_KINDS))}'
            )
        # numpy's integers are integral numbers too; 1.0 and True equal 1 and are mistakes.
        whole = isinstance(self.severity, Integral) and not isinstance(self.severity, bool)
        if not whole or self.severity not in SEVERITIES:
            raise ValueError(f'severity {self.severity!r} is unknown; choose from {", ".join(map(str, SEVERITIES))}')

    def __str__(self) -> str:
        return f'{self.kind} {self.severity}'

    @property
    def label(self) -> str:
        """For people: ``gaussian noise, severity 3``."""
        return f'{self.kind.replace("_", " ")}, severity {self.severity}'

    @property
    def is_extra(self) -> bool:
        """Whether the kind is no part of the benchmark."""
        return self.kind in EXTRA_KINDS

    @classmethod
    def parse(cls, text: str) -> 'Cell':
        """Read a cell: ``fog 3``, or ``fog_3`` as the keys of ``corruptions.json`` are.

        Raises:
            ValueError: The text is no cell.
        """
        match = re.fullmatch(r'(.+)[ _](\d+)', text)
        if match is None:
            raise ValueError(f"'{text}' is no cell; expected a kind and a severity, such as 'fog 3'")
        return cls(match[1], int(match[2]))


def cells_of(kinds: Iterable[str], severities: Sequence[int] = SEVERITIES) -> list[Cell]:
    """All cells of these kinds and severities, kind by kind."""
    return [Cell(kind, severity) for kind in kinds for severity in severities]


def choose_kinds(names: Iterable[str]) -> tuple[str, ...]:
    """Kinds by their names and the names of groups, each once.

    Raises:
        ValueError: A name is unknown.
    """
    kinds = [kind for name in names for kind in GROUPS.get(name, (name,))]
    try:
        cells_of(kinds, SEVERITIES[:1])
    except ValueError as error:
        raise ValueError(f'{error}; or the groups {", ".join(GROUPS)}') from None
    return tuple(dict.fromkeys(kinds))
