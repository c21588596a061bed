"""Models without storage: shapes alone, on torch's ``meta`` device."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class ShapesOnly(TorchFunctionMode):
    """On the ``meta`` device, leave out initial values and batch norms, which change no shape.

    torch computes the shapes of both in Python there: two thirds of the time in which a convolutional network is built
    and its multiply-adds are counted. Batch norms count none.
    """

    SKIPPED = {
        *(nn.init.kaiming_uniform_, nn.init.kaiming_normal_, nn.init.uniform_, nn.init.normal_),
        *(Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.clamp_),
        F.batch_norm,
    }

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in self.SKIPPED:
            tensor = args[0] if args else kwargs['tensor']  # torch.nn.init hands its tensor on by name
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


@contextlib.contextmanager
def without_storage() -> Iterator[None]:
    """In this context models are built on the ``meta`` device, without initial values."""
    with torch.device('meta'), ShapesOnly():
        yield
