"""Which corruptions a student sees while it trains, for its record and its checkpoints."""

from collections.abc import Iterable, Iterator
from typing import Any

SEEN = 'seen_kinds'
"""Key in a checkpoint's ``meta``, and field of a `backbones.record.ModelRecord`."""


def seen_kinds(dataset: Any, before: Iterable[str] | None = None) -> list[str]:
    """Kinds of corruption, and mixtures, that a training set shows the student.

    Args:
        dataset: A `distill.data.views.Views`, or a data set of mmdet or mmseg, in wrappers or not.
        before: What the weights that training begins with have seen.

    Returns:
        Their names, each once.
    """
    found = list(before or ())
    for corruption in _corruptions(dataset):
        found += corruption.seen
    return list(dict.fromkeys(found))


def _corruptions(dataset: Any) -> Iterator[Any]:
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', None) or ()
    # `SeededSamples` gives the attributes of the set inside for its own.
    own = vars(dataset).get('corruption')
    for corruption in (own, *(getattr(step, 'corruption', None) for step in steps)):
        if corruption is not None:
            yield corruption
    for inside in (vars(dataset).get('dataset'), *(vars(dataset).get('datasets') or ())):
        if inside is not None:
            yield from _corruptions(inside)
