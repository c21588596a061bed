"""Parts of error messages."""

from collections.abc import Iterable


def choices(values: Iterable) -> str:
    """List the values that an argument may have, such as ``4, 8, 16``."""
    return ', '.join(map(str, values))
