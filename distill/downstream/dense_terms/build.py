"""From a config to the terms of a dense distillation."""

import inspect
from collections.abc import Mapping, Sequence

from torch import nn

from distill.downstream.dense_terms.base import DenseTerm
from distill.downstream.dense_terms.crosskd_terms import CrossRetinaTerm
from distill.downstream.dense_terms.feature_terms import FeatureTerm
from distill.downstream.dense_terms.roi_terms import CrossRoITerm, RoITerm
from distill.downstream.dense_terms.rpn_terms import RPNTerm
from distill.downstream.dense_terms.segmentation_terms import SegmentationTerm
from distill.losses.dense import NEEDS

PLACES: dict[str, type[DenseTerm]] = {
    'neck': FeatureTerm,
    'backbone': FeatureTerm,
    'head': SegmentationTerm,
    'logits': SegmentationTerm,
}
"""What a term's ``on`` can be, and the class of the terms there: losses that compare two maps."""
HEADS: dict[str, type[DenseTerm]] = {
    'rpn': RPNTerm,
    'roi': RoITerm,
    'crosskd_roi': CrossRoITerm,
    'crosskd': CrossRetinaTerm,
}
"""Losses on the heads of detectors, which have a place of their own."""


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
        term = _term_class(config)(**config)
        same = sum(earlier.kind == term.kind for earlier in terms)
        term.name += f'_{same + 1}' if same else ''
        terms.append(term)
    return terms


def _term_class(config: Mapping) -> type[DenseTerm]:
    """The class of a term, whose options are checked if it names all of them."""
    if config['type'] in HEADS:
        found = HEADS[config['type']]
        known = list(inspect.signature(found).parameters)
        if unknown := sorted(set(config) - set(known)):
            raise ValueError(f"loss {config['type']} has no option '{unknown[0]}'; choose from {', '.join(known[1:])}")
        return found
    place = config.get('on', 'neck')
    if place not in PLACES:
        raise ValueError(f"loss {config['type']} is on '{place}'; choose from {', '.join(PLACES)}")
    if PLACES[place] is FeatureTerm and config['type'] in NEEDS and NEEDS[config['type']].adaptor == 'classes':
        raise ValueError(f"loss {config['type']} compares classes, and a map has none; set on='logits'")
    return PLACES[place]
