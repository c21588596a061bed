"""A teacher's predictions on disk, for views that are replayed bit for bit.

A cache is a folder with flat files of rows, one row for each view of each image in the order of a `ViewPlan`, and a
manifest of all that a prediction depends on. A row holds the largest K probabilities and their classes, or the
probabilities of all classes alone. Probabilities are stored as logarithms, which do not underflow in half precision
and keep the tail: 1 − 0.9999 is lost in a probability of 11 bits. In single precision all classes are stored as the
teacher's logits, so that training from the cache repeats training with the teacher to the last bit.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distill.base.devices import to_device
from distill.teachers.cache.rows import Rows

LEAST_TAIL = 1e-8
"""Probability of all classes that are not stored, where rounding leaves none. Keeps the logarithm finite."""


@dataclass(frozen=True)
class Store(Rows):
    """Predictions in files.

    Attributes:
        num_classes: Classes C of the teacher.
        topk: Stored classes K of a prediction.
        dtype: ``float16`` or ``float32``. A half-precision row has 4 · K bytes, or 2 · C if all classes are stored.
    """

    num_classes: int
    topk: int
    dtype: str

    @property
    def row_type(self) -> np.dtype:
        """A row as numpy has it: ``logit`` [K], and ``class`` [K] unless all classes are stored."""
        fields = [('logit', np.dtype(self.dtype), (self.topk,))]
        if self.topk < self.num_classes:
            number = np.dtype(np.uint16 if self.num_classes <= 2**16 else np.int32)
            fields.append(('class', number, (self.topk,)))
        return np.dtype(fields)

    def pack(self, logits: Tensor) -> np.ndarray:
        """Rows [N] of logits [N, C]."""
        rows = np.empty(len(logits), self.row_type)
        if self.topk < self.num_classes:
            values, classes = logits.log_softmax(dim=1).topk(self.topk, dim=1)
            rows['class'] = classes.cpu().numpy()
        else:
            values = logits if self.dtype == 'float32' else logits.log_softmax(dim=1)
        rows['logit'] = values.cpu().numpy()
        return rows

    def unpack(self, rows: np.ndarray, device: torch.device | str = 'cpu') -> Tensor:
        """Logits [N, C] of rows [N]; the probability that the stored classes leave is spread evenly over the others."""
        logits = to_device(torch.from_numpy(rows['logit'].astype(np.float32)), device)
        if self.topk == self.num_classes:
            return logits
        classes = to_device(torch.from_numpy(rows['class'].astype(np.int64)), device)
        tail = (1 - logits.exp().sum(dim=1, keepdim=True)).clamp(min=LEAST_TAIL) / (self.num_classes - self.topk)
        return tail.log().repeat(1, self.num_classes).scatter_(1, classes, logits)
