"""Lists of classes: the one comparison between those of data, models, teachers and files."""

from collections.abc import Mapping, Sequence

SHOWN = 5


def match_classes(found: Sequence[str], expected: Sequence[str], found_in: str, expected_in: str) -> list[int]:
    """Find each class of one list in another list of the same names.

    Two lists of as many, but other names are no match: a label would then mean another class on either side.

    Args:
        found: Names of classes, in the order of their labels.
        expected: Names of classes, in the order of their labels.
        found_in: Where ``found`` comes from, in the error.
        expected_in: Where ``expected`` comes from, in the error.

    Returns:
        For each name of ``found`` its place in ``expected``; 0, 1, 2, … where the orders are the same.

    Raises:
        ValueError: A list names a class twice, or the names differ; the message has the difference.
    """
    for names, where in ((found, found_in), (expected, expected_in)):
        twice = sorted({name for name in names if list(names).count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise ValueError(f'{where} has {first(twice)} twice; a name stands for one class: rename or merge them')
    missing = [name for name in expected if name not in set(found)]
    extra = [name for name in found if name not in set(expected)]
    if missing or extra:
        problems = [f'lacks {first(missing)} ({len(missing)} of {len(expected)})'] if missing else []
        problems += [f'has {first(extra)} besides ({len(extra)} of {len(found)})'] if extra else []
        raise ValueError(
            f'{found_in} {" and ".join(problems)}, compared with {expected_in}: {first(expected)}; '
            'both must name the same classes'
        )
    place = {name: k for k, name in enumerate(expected)}
    return [place[name] for name in found]


def first(names: Sequence[str], count: int = SHOWN) -> str:
    """The first names of a list, for a message."""
    return ', '.join(map(str, names[:count])) + (', …' if len(names) > count else '')


def known_classes(recorded: Sequence[str] | None, config: Mapping, num_classes: int) -> list[str] | None:
    """The names of a model's classes in the order of its logits, or None if nothing tells them.

    Args:
        recorded: Names in the record beside the checkpoint, which come first.
        config: timm's ``pretrained_cfg``, whose ``label_names`` are a list or a dict by index.
        num_classes: Number of the logits; names of another number are another model's.
    """
    names = recorded or config.get('label_names') or ()
    if isinstance(names, Mapping):
        names = [name for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    names = list(map(str, names))
    return names if len(names) == num_classes and (recorded or not _describe_imagenet(names)) else None


def _describe_imagenet(names: Sequence[str]) -> bool:
    """Whether names are words for ImageNet's classes in their order, where data has WordNet ids."""
    if len(names) != 1000:
        return False
    from timm.data import ImageNetInfo

    words = [name.partition(',')[0].casefold() for name in ImageNetInfo().label_descriptions()]
    return sum(name.partition(',')[0].casefold() == word for name, word in zip(names, words, strict=True)) > 500
