"""One set of images, or several sets without labels that a run draws from."""

from collections.abc import Mapping, Sequence

from distill.data.plan import Source
from distill.data.readers import ImageReader, open_reader
from distill.data.unlabelled import JoinedReader

KEYS = ('root', 'split', 'name', 'weight')
"""What may be said of one of several sets."""


def open_sources(
    root: str, split: str, name: str, labels: bool, sources: Sequence[Mapping] | None
) -> tuple[ImageReader, list[Source] | None]:
    """Open the reader of a set, or of several sets.

    Args:
        root: See `open_reader`.
        split: See `open_reader`.
        name: See `open_reader`.
        labels: See `open_reader`.
        sources: Several sets in place of one, see `distill.data.views.Views`.

    Returns:
        The reader; and number of images and weight of each set, or None without weights.

    Raises:
        FileNotFoundError: The data is not there.
        ValueError: The sets are not described as they should be, or as in `open_reader`.
    """
    if sources is None:
        return open_reader(root, split, name, labels), None
    if labels:
        raise ValueError('sources are several sets without labels; set dataset.labels=False, or name one root')
    if root or split or name:
        raise ValueError(f"'{root or split or name}' is given beside sources; name it there as one of them, or drop it")
    if not sources or not all(
        isinstance(source, Mapping) and ('root' in source or 'name' in source) for source in sources
    ):
        raise ValueError(f'sources is {sources!r}; give a list of dict(root=…), each with any of {", ".join(KEYS[1:])}')
    for source in sources:
        if unknown := [key for key in source if key not in KEYS]:
            raise ValueError(f"a source of images has no '{unknown[0]}'; choose from {', '.join(KEYS)}")
    weights = [source.get('weight') for source in sources]
    lacking = [source for source, weight in zip(sources, weights, strict=True) if weight is None]
    if lacking and len(lacking) < len(weights):
        raise ValueError(
            f"source '{lacking[0].get('root') or lacking[0].get('name')}' has no weight and another has one; give all "
            'a weight, or none, for which each has as large a share as it has images'
        )
    readers = [
        open_reader(source.get('root', ''), source.get('split', ''), source.get('name', ''), False)
        for source in sources
    ]
    if lacking:
        return JoinedReader(readers), None
    for source, weight in zip(sources, weights, strict=True):
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float('inf'):
            raise ValueError(f'weight of a source is {weight!r} ({dict(source)}); give a number above 0, or drop it')
    return JoinedReader(readers), [
        Source(len(reader), float(source['weight'])) for reader, source in zip(readers, sources, strict=True)
    ]
