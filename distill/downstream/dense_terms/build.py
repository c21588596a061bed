"""From a config to the terms of a dense distillation."""

from collections.abc import Mapping, Sequence

from torch import nn

from distill.downstream.dense_terms.base import DenseTerm
from distill.downstream.dense_terms.feature_terms import FeatureTerm

PLACES: dict[str, type[DenseTerm]] = {'neck': FeatureTerm, 'backbone': FeatureTerm}
"""What a term's ``on`` can be, and the class of the terms there."""


def build_terms(configs: Sequence[Mapping]) -> nn.ModuleList:
    """Terms of a weighted sum; the second and further ones of a name are numbered: ``pkd``, ``pkd_2``, ….

    Args:
        configs: For each term its ``type``, where it is (``on``, a key of `PLACES`), and its arguments.

    Raises:
        ValueError: There is no term, or one is described wrongly.
    """
    given = isinstance(configs, Sequence) and not isinstance(configs, str) and len(configs)
    if not given or not all(isinstance(config, Mapping) and 'type' in config for config in configs):
        raise ValueError(
            f"model.losses is {configs!r}; give a list of terms, such as [dict(type='pkd', on='neck', weight=6.0)]"
        )
    terms = nn.ModuleList()
    for config in configs:
        place = config.get('on', 'neck')
        if place not in PLACES:
            raise ValueError(f"loss {config['type']} is on '{place}'; choose from {', '.join(PLACES)}")
        term = PLACES[place](**config)
        same = sum(earlier.kind == term.kind for earlier in terms)
        term.name += f'_{same + 1}' if same else ''
        terms.append(term)
    return terms
