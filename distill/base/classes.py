"""Lists of classes: the one comparison between those of data, models, teachers and files."""

from collections.abc import Sequence

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
