"""Rows of one type in files of a fixed number of rows each, which several processes write and any can read.

A file appears under its name when it is complete, after its checksum, so that an interrupted writer goes on with the
files that are missing.
"""

import functools
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.base.files import atomic_write, write_bytes, write_text

LARGEST_SHARD = 2**15
KEY_BYTES = 8
"""Of the image and the view of a row, two numbers of 32 bits, little-endian."""


@dataclass(frozen=True)
class Rows(ABC):
    """Numbered rows in files. A file that exists is complete.

    Attributes:
        directory: Folder of the files.
        rows: Number of rows.
    """

    directory: Path
    rows: int

    @property
    @abstractmethod
    def row_type(self) -> np.dtype:
        """A row as numpy has it."""

    @property
    def shard_rows(self) -> int:
        """Rows of a file, an even number: a sixteenth of all, so that a few processes can share the work, or less."""
        return min(2 * -(-self.rows // 32), LARGEST_SHARD)

    @property
    def shards(self) -> int:
        """Number of files."""
        return -(-self.rows // self.shard_rows)

    @property
    def row_bytes(self) -> int:
        """Size of a row with its key."""
        return self.row_type.itemsize + KEY_BYTES

    @property
    def size_bytes(self) -> int:
        """Size of all files of rows and keys when they are complete."""
        return self.rows * self.row_bytes

    @property
    def missing_bytes(self) -> int:
        """Size of the files that are not written yet."""
        there = [int(path.stem) for path in self.directory.glob('*.rows') if path.stem.isdigit()]
        return (self.rows - sum(len(self.span(shard)) for shard in there)) * self.row_bytes

    def span(self, shard: int) -> range:
        """The rows of a file."""
        return range(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.rows))

    def path(self, shard: int) -> Path:
        """Where a file is or will be."""
        return self.directory / f'{shard:06d}.rows'

    def write_keys(self, shard: int, keys: np.ndarray) -> None:
        """Write which image and view each row of a file is of, for readers that cannot compute it.

        Args:
            shard: Number of the file.
            keys: Image and view [N, 2].
        """
        write_bytes(self.path(shard).with_suffix('.keys'), keys.astype('<u4').tobytes())

    def write(self, shard: int, parts: Iterable[np.ndarray]) -> None:
        """Write a file of rows, and before it is there its checksum: rows that are there have one.

        Args:
            shard: Number of the file.
            parts: Its rows, part by part: no more than one part is held in memory.
        """
        checksum = 0
        with atomic_write(self.path(shard)) as temporary, temporary.open('wb') as file:
            for part in parts:
                content = part.tobytes()
                checksum = zlib.crc32(content, checksum)
                file.write(content)
            file.flush()
            write_text(_checksum_path(self.path(shard)), f'{checksum:08x}\n')

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
