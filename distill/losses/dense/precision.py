"""What keeps a loss exact under automatic mixed precision."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor


def _full(x: object) -> object:
    return x.float() if isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16) else x


def in_full_precision(function: Callable) -> Callable:
    """Run a function of tensors outside autocast, with its half-precision inputs as fp32.

    Sums over thousands of positions and differences of near values are wrong in half precision, and a matrix product
    would be computed in it whatever the type of its inputs. fp64 stays fp64.
    """

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        with torch.autocast(given[0].device.type if given else 'cpu', enabled=False):
            return function(*map(_full, args), **{name: _full(x) for name, x in kwargs.items()})

    return wrapped
