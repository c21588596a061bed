"""A teacher's predictions on disk, for views that are replayed bit for bit.

A cache is a folder with flat files of rows, one row for each view of each image in the order of a `ViewPlan`, and a
manifest of all that a prediction depends on. A row holds the largest K probabilities and their classes, or the
probabilities of all classes alone. Probabilities are stored as logarithms, which do not underflow in half precision
and keep the tail: 1 − 0.9999 is lost in a probability of 11 bits. In single precision all classes are stored as the
teacher's logits, so that training from the cache repeats training with the teacher to the last bit.
"""

import functools
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.base.devices import to_device
from distill.base.files import write_bytes, write_text

LARGEST_SHARD = 2**15
LEAST_TAIL = 1e-8
"""Probability of all classes that are not stored, where rounding leaves none. Keeps the logarithm finite."""


@dataclass(frozen=True)
class Store:
    """Predictions in files of a fixed number of rows each. A file that exists is complete.

    Attributes:
        directory: Folder of the files.
        rows: Number of predictions.
        num_classes: Classes C of the teacher.
        topk: Stored classes K of a prediction.
        dtype: ``float16`` or ``float32``. A half-precision row has 4 · K bytes, or 2 · C if all classes are stored.
    """

    directory: Path
    rows: int
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

    @property
    def shard_rows(self) -> int:
        """Rows of a file, an even number: a sixteenth of all, so that a few processes can share the work, or less."""
        return min(2 * -(-self.rows // 32), LARGEST_SHARD)

    @property
    def shards(self) -> int:
        """Number of files."""
        return -(-self.rows // self.shard_rows)

    def span(self, shard: int) -> range:
        """The rows of a file."""
        return range(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.rows))

    def path(self, shard: int) -> Path:
        """Where a file is or will be."""
        return self.directory / f'{shard:06d}.rows'

    def write(self, shard: int, rows: np.ndarray) -> None:
        """Write a file of rows, and before it its checksum: rows that are there have one."""
        write_text(_checksum_path(self.path(shard)), f'{zlib.crc32(rows.tobytes()):08x}\n')
        write_bytes(self.path(shard), rows.tobytes())

    def missing(self) -> list[int]:
        """Files that are not written yet."""
        return [shard for shard in range(self.shards) if not self.path(shard).is_file()]

    def check_sizes(self) -> None:
        """Check that every file has as many bytes as its rows take.

        Raises:
            ValueError: A file is damaged.
        """
        for shard in range(self.shards):
            _check_size(self.path(shard), self.row_type, len(self.span(shard)))

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

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Rows [N] by their numbers [N].

        Raises:
            ValueError: A file is damaged.
        """
        rows = np.empty(len(numbers), self.row_type)
        shards, places = np.divmod(numbers, self.shard_rows)
        for shard in np.unique(shards):
            chosen = shards == shard
            rows[chosen] = _mapped(self.path(shard), self.row_type, len(self.span(shard)))[places[chosen]]
        return rows


@functools.lru_cache(maxsize=512)
def _mapped(path: Path, row_type: np.dtype, rows: int) -> np.ndarray:
    """A file as an array, which the system reads ahead."""
    _check_size(path, row_type, rows)
    with path.open('rb') as file:
        if hasattr(os, 'posix_fadvise'):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        mapped = np.memmap(file, row_type, 'r')
    checksum = _checksum_path(path)
    # Caches of earlier versions have no checksums.
    if checksum.is_file() and checksum.read_text().strip() != f'{zlib.crc32(mapped.view(np.uint8).data):08x}':
        raise ValueError(
            f"'{path}' is damaged: its checksum is not that of '{checksum.name}'; delete it and write it again"
        )
    return mapped


def _check_size(path: Path, row_type: np.dtype, rows: int) -> None:
    if path.stat().st_size != rows * row_type.itemsize:
        raise ValueError(f"'{path}' is damaged: it has not {rows} rows; delete it and write it again")


def _checksum_path(path: Path) -> Path:
    """Where the checksum (CRC-32) of a file of rows lies, as text."""
    return path.with_suffix('.crc32')
