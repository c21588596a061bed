"""The stand-ins for mmcv's compiled operators, on the card against the CPU."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from distill.base.extras import missing_extra
from distill.gpu_check.rows import Check, Mismatch, Setting, Skip, distance, require

DTYPES = {'fp64': (torch.float64, 1e-7), 'fp32': (torch.float32, 1e-4), 'fp16': (torch.float16, 5e-2)}
"""The types of the comparison, and the most that a result may be off."""


def checks(setting: Setting) -> list[Check]:
    """A check for each differentiable operator, and for each one on boxes."""
    try:
        from backbones.mmcv_ops.cases import BOX_CASES, CASES
    except ImportError as error:
        message = missing_extra(error) or str(error)
        return [Check('mmcv', partial(_skip, message))]
    found = [Check(name, partial(compare, name, setting)) for name in CASES]
    return found + [Check(name, partial(compare_boxes, name, setting)) for name in BOX_CASES]


def _skip(message: str) -> Mapping[str, float]:
    raise Skip(message)


def compare(name: str, setting: Setting) -> Mapping[str, object]:
    """Compare an operator's result and gradients, in each type with the CPU's in double precision.

    The inputs are rounded to half precision first, so that all types are shown the same numbers.
    """
    from backbones.mmcv_ops.cases import cast, run

    exact = run(name, cast(name, lambda x: x.half().double()))
    values, limits = {}, {}
    for called, (dtype, limit) in DTYPES.items():
        on_device = cast(name, lambda x, dtype=dtype: x.half().to(setting.device, dtype))
        found = run(name, on_device)
        values[called], limits[called] = max(_relative(*pair) for pair in zip(found, exact, strict=True)), limit
    return require(values, limits)


def _relative(found: Tensor, expected: Tensor) -> float:
    """The relative error, or the absolute one of what should be 0."""
    return distance(found, expected) if expected.any() else float(found.double().abs().max())


def compare_boxes(name: str, setting: Setting) -> Mapping[str, object]:
    """Compare what an operator on boxes makes of them: indices exactly, numbers nearly."""
    from backbones.mmcv_ops.cases import BOX_CASES

    function: Callable[[str], list[Tensor]] = BOX_CASES[name]
    found, expected = function(setting.device), function('cpu')
    if [x.shape for x in found] != [x.shape for x in expected]:
        shapes = {'found': [list(x.shape) for x in found], 'expected': [list(x.shape) for x in expected]}
        raise Mismatch('the results have other shapes than on the CPU', shapes)
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        if not one.is_floating_point() and not torch.equal(one.cpu(), other):
            raise Mismatch('other boxes are kept than on the CPU', {'found': one.tolist(), 'expected': other.tolist()})
        worst = max(worst, _relative(one, other) if one.is_floating_point() and one.numel() else 0.0)
    return require({'error': worst}, {'error': 1e-5})
