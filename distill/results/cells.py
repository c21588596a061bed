"""A value for each cell, as ``results.json`` holds it: kind → a list with one value for each severity."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from distill.base.records import SEVERITIES, Cell, cells_of

Value = TypeVar('Value')


def cells_to_json(values: Mapping[Cell, Value]) -> dict[str, list[Value]]:
    """Group values by kind, in the order of the mapping.

    Args:
        values: A value for each cell; all kinds have the same severities, in the same order.
    """
    by_kind: dict[str, list[Value]] = {}
    for cell, value in values.items():
        by_kind.setdefault(cell.kind, []).append(value)
    return by_kind


def cells_from_json(
    by_kind: Mapping[str, Sequence[Value]], severities: Sequence[int] = SEVERITIES
) -> dict[Cell, Value]:
    """Read what `cells_to_json` wrote.

    Args:
        by_kind: Values by kind.
        severities: What the positions of a list stand for.

    Raises:
        ValueError: A kind is unknown, or has another number of values than there are severities.
    """
    values = [value for row in by_kind.values() for value in row]
    if any(len(row) != len(severities) for row in by_kind.values()):
        counts = ', '.join(f'{kind} {len(row)}' for kind, row in by_kind.items() if len(row) != len(severities))
        raise ValueError(f'{counts} values; expected {len(severities)}, one for each severity')
    return dict(zip(cells_of(by_kind, severities), values, strict=True))
