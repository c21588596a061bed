"""What a part consists of: checks, each of which gives one row of the result."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

PASSED, FAILED, NOT_REACHED, SKIPPED = 'passed', 'failed', 'not reached in time', 'skipped'


@dataclass(frozen=True)
class Setting:
    """Where checks run.

    Attributes:
        device: ``cuda`` or ``cpu``.
        folder: An empty folder for data and runs.
        small: Sizes for the logic alone, in place of those that fill a card.
        budget_s: What the part may take, for those that measure as much as fits.
    """

    device: str
    folder: Path
    small: bool
    budget_s: float


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes:
        name: Unique in its part.
        run: Returns what was measured by name; raises `Mismatch` where it is not as it must be.
    """

    name: str
    run: Callable[[], Mapping[str, Any]]


class Mismatch(Exception):
    """What was measured is not as it must be.

    Args:
        message: What is wrong.
        values: What was measured.
    """

    def __init__(self, message: str, values: Mapping[str, Any]):
        super().__init__(message)
        self.values = dict(values)


class Skip(Exception):
    """The check says nothing here; the message says why."""


@dataclass
class Row:
    """The result of a check, as it stands in the JSON.

    Attributes:
        part: Its part.
        name: Its name in the part.
        status: ``passed``, ``failed``, ``not reached in time`` or ``skipped``.
        time_s: What it took.
        values: What was measured, tolerances beside it.
        cause: The last line of the exception.
        traceback: All of it.
    """

    part: str
    name: str
    status: str
    time_s: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)
    cause: str = ''
    traceback: str = ''

    def take(self, error: BaseException) -> None:
        """Note what has ended the check."""
        self.status = SKIPPED if isinstance(error, Skip) else FAILED
        self.cause = f'{type(error).__name__}: {error}'.strip().splitlines()[-1][:500]
        if isinstance(error, Mismatch):
            self.values = error.values
            self.cause = str(error)
        elif not isinstance(error, Skip):
            self.traceback = ''.join(traceback.format_exception(error))[-6000:]


def distance(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖ over all elements, in double precision; NaN where one is not finite."""
    found, expected = (x.detach().double().cpu() for x in (found, expected))
    return float((found - expected).norm() / expected.norm().clamp(min=1e-30))


def require(values: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, Any]:
    """Check that measured values are at or below their limits; NaN is not.

    Args:
        values: What was measured.
        limits: The most that each value of that name may be.

    Returns:
        The values and limits, as a row holds them.

    Raises:
        Mismatch: A value is above its limit.
    """
    shown = {**values, 'limits': dict(limits)}
    wrong = [f'{name} is {values[name]:.3g}, limit {limit:.3g}' for name, limit in limits.items()
             if not values[name] <= limit]  # fmt: skip
    if wrong:
        raise Mismatch('; '.join(wrong), shown)
    return shown
