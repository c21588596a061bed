"""Models without storage: shapes alone, on torch's ``meta`` device."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class ShapesOnly(TorchFunctionMode):
    """On the ``meta`` device, leave out random initial values and batch norms, which change no shape.

    torch computes the shapes of both in Python there: two thirds of the time in which a convolutional network is built
    and its multiply-adds are counted. Batch norms count none.
    """

    SKIPPED = {F.batch_norm, torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_, torch.Tensor.clamp_}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.SKIPPED and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def without_storage() -> Iterator[None]:
    """In this context models are built on the ``meta`` device, without initial values."""
    with torch.device('meta'), ShapesOnly():
        yield
