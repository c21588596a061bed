"""The former place of `distill.corruptions`, for code that knows it by this name."""

from distill.corruptions import (
    DEFINITIONS,
    DETERMINISTIC,
    EXTRA_KINDS,
    KINDS,
    SEVERITIES,
    check_choices,
    corrupt,
    frost_source,
    generator,
)

__all__ = [
    'DEFINITIONS',
    'DETERMINISTIC',
    'EXTRA_KINDS',
    'KINDS',
    'SEVERITIES',
    'check_choices',
    'corrupt',
    'frost_source',
    'generator',
]
