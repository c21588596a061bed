"""Checks of JSON values, from which `distill.results.schema` is put together.

A check is a function of a value and of the place where the value stands, which raises a one-line ValueError with the
place, what was expected and what was found. The functions below make checks.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

Check = Callable[[object, str], None]

ABSENT = object()
"""In place of a value that is not there."""


def fail(where: str, expected: str, found: object) -> NoReturn:
    """Refuse a value.

    Args:
        where: The file and the key path.
        expected: What should stand there.
        found: What stands there, or `ABSENT`.

    Raises:
        ValueError: Always.
    """
    shown = 'nothing' if found is ABSENT else repr(found)
    shown = shown if len(shown) <= 60 else shown[:57] + '...'
    raise ValueError(f'{where}: expected {expected}, found {shown}')


def join(where: str, key: str) -> str:
    """The place of a key in the object at a place."""
    return f'{where}{key}' if where.endswith(': ') else f'{where}.{key}'


def number(low: float = -math.inf, high: float = math.inf, whole: bool = False) -> Check:
    """A finite number from ``low`` to ``high``; neither a truth value nor NaN."""
    expected = 'a whole number' if whole else 'a number'
    if math.isfinite(high):
        expected += f' from {low:g} to {high:g}'
    elif math.isfinite(low):
        expected += f' of at least {low:g}'

    def check(value: object, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            fail(where, expected, value)
        if not math.isfinite(value) or not low <= value <= high:
            fail(where, expected, value)

    return check


def text(pattern: str = '.*', expected: str = 'a text') -> Check:
    """A string that matches the whole of ``pattern``."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.DOTALL):
            fail(where, expected, value)

    return check


def truth(value: object, where: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        fail(where, 'true or false', value)


def anything(value: object, where: str) -> None:
    """Any value."""


def nullable(item: Check) -> Check:
    """``null``, or what ``item`` accepts."""
    return lambda value, where: None if value is None else item(value, where)


def list_of(item: Check, length: int | None = None) -> Check:
    """A list, of ``length`` entries where given."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, list) or (length is not None and len(value) != length):
            fail(where, 'a list' if length is None else f'a list of {length}', value)
        for index, entry in enumerate(value):
            item(entry, f'{where}[{index}]')

    return check


def map_of(item: Check) -> Check:
    """An object with any keys."""

    def check(value: object, where: str) -> None:
        if not isinstance(value, dict):
            fail(where, 'an object', value)
        for key, entry in value.items():
            item(entry, join(where, key))

    return check


@dataclass(frozen=True)
class Fields:
    """An object with the required keys; keys that neither mapping names are let through.

    Attributes:
        required: Check of each key that must be there.
        optional: Check of each key that may be there.
    """

    required: Mapping[str, Check]
    optional: Mapping[str, Check] = field(default_factory=dict)

    def __call__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            fail(where, 'an object', value)
        for key, item in self.required.items():
            if key not in value:
                fail(join(where, key), 'a value', ABSENT)
            item(value[key], join(where, key))
        for key, item in self.optional.items():
            if key in value:
                item(value[key], join(where, key))
