"""Wide depthwise convolutions: each pass with this project's kernels and with torch's, by `benchmark depthwise`."""

import functools
import importlib
import importlib.util
import math
from collections.abc import Mapping
from typing import Any

from distill.gpu_check.rows import Check, Mismatch, Setting, Skip

BENCHMARK = 'distill.benchmarks.depthwise'
OF_BUDGET = 0.85
"""The share of the time that the measurement is given; imports and the last case take the rest."""
TIMES, FLOOR = 4.0, 1e-4
"""How often torch's error a kernel's may be, and what it always may."""


def checks(setting: Setting) -> list[Check]:
    """One check, which a CPU skips: Triton's interpreter runs the kernels there, in the tests."""
    return [Check('wide depthwise convolutions', functools.partial(measure, setting))]


def measure(setting: Setting) -> dict[str, Any]:
    """Times and errors of every pass of every case; errors of this project's kernels beside torch's."""
    if setting.small:
        raise Skip('the kernels run on a card only; without one, tests/backbones has them in an interpreter')
    benchmark = importlib.import_module(BENCHMARK)
    result = benchmark.benchmark_depthwise(setting.device, OF_BUDGET * setting.budget_s, None, print)
    flat = {
        f'{row["case"]} {row["layout"]} {row["pass"]}': row['speedup'] for row in result['rows'] if 'speedup' in row
    }
    told = {**flat, **result}
    wrong = [name for row in result['rows'] if (name := _wrong(row))]
    wrong += [str(one) for one in result.get('failed', ())]
    if wrong:
        raise Mismatch('; '.join(wrong)[:400], told)
    return told


def _wrong(row: Mapping[str, Any]) -> str | None:
    errors = row.get('error', {})
    ours, torchs = errors.get('ours'), errors.get('torch')
    if ours is None or (math.isfinite(ours) and ours <= max(FLOOR, TIMES * (torchs or 0))):
        return None
    return f'{row["case"]} {row["layout"]} {row["pass"]}: error {ours:.3g}, torch {torchs}'
