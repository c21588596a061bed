"""A teacher's features on disk: pooled embeddings as they are, the grid of patch embeddings compressed, and logits."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.base.devices import to_device
from distill.base.files import read_json, write_json
from distill.teachers.cache.grid_codec import ERRORS, GridCodec
from distill.teachers.cache.rows import Rows
from distill.teachers.cache.store import Store
from distill.teachers.protocol import Features


@dataclass(frozen=True)
class FeatureStore(Rows):
    """Features in files.

    Attributes:
        pooled: Channels of the pooled embedding and the type in which it is stored; None if none is.
        grid: Height, width, components and type of the grid; None if none is stored.
        logits: How logits are stored, or None if none are.
        codec: How grids are compressed; None where only sizes matter.
    """

    pooled: tuple[int, str] | None
    grid: tuple[int, int, int, str] | None
    logits: Store | None
    codec: GridCodec | None = None

    @property
    def row_type(self) -> np.dtype:
        """A row as numpy has it: ``pooled`` [D], ``logit`` and ``class`` [K], ``grid`` [h · w, d], as far as stored."""
        fields: list[tuple] = []
        if self.pooled is not None:
            fields.append(('pooled', np.dtype(self.pooled[1]), (self.pooled[0],)))
        if self.logits is not None:
            fields += [
                (name, kind.base, kind.shape) for name, (kind, *_) in (self.logits.row_type.fields or {}).items()
            ]
        if self.grid is not None:
            height, width, dims, dtype = self.grid
            fields.append(('grid', np.dtype(dtype), (height * width, dims)))
        return np.dtype(fields)

    def with_codec(self, codec: GridCodec) -> 'FeatureStore':
        """The store with a codec."""
        return replace(self, codec=codec)

    def pack(self, features: Features) -> tuple[np.ndarray, Tensor | None]:
        """Rows [N] of the features of N views, and the errors `ERRORS` of their grids [N, 8]."""
        given = [value for value in (features.pooled, features.grid, features.logits) if value is not None]
        rows, errors = np.empty(len(given[0]), self.row_type), None
        if self.pooled is not None and features.pooled is not None:
            rows['pooled'] = features.pooled.float().cpu().numpy()
        if self.logits is not None and features.logits is not None:
            packed = self.logits.pack(features.logits.float())
            for name in packed.dtype.names or ():
                rows[name] = packed[name]
        if self.grid is not None and self.codec is not None and features.grid is not None:
            codec = self.codec.on(features.grid.device)
            codes = codec.encode(features.grid)
            errors = codec.errors(features.grid, codec.decode(codes, *self.grid[:2])).cpu()
            rows['grid'] = codes.cpu().numpy()
        return rows, errors

    def unpack(
        self,
        rows: np.ndarray,
        device: torch.device | str = 'cpu',
        wanted: Collection[str] = ('pooled', 'grid', 'logits'),
    ) -> Features:
        """The features of rows [N], those that are wanted and stored.

        Grids are decoded on the device, so that only their codes travel there.
        """
        pooled = grid = logits = None
        if self.pooled is not None and 'pooled' in wanted:
            pooled = to_device(_field(rows, 'pooled'), device).float()
        if self.grid is not None and self.codec is not None and 'grid' in wanted:
            codes = to_device(_field(rows, 'grid'), device)
            grid = self.codec.on(codes.device).decode(codes, *self.grid[:2])
        if self.logits is not None and 'logits' in wanted:
            logits = self.logits.unpack(rows, device)
        return Features(pooled, grid, logits)

    def write_measured(self, shard: int, parts: Iterable[tuple[np.ndarray, Tensor | None]]) -> None:
        """Write a file of rows, and before it is there its checksum and the errors of its grids.

        Args:
            shard: Number of the file.
            parts: Its rows with their errors, part by part, as `pack` gives them.
        """
        measured: list[Tensor] = []

        def rows() -> Iterable[np.ndarray]:
            for part, errors in parts:
                if errors is not None:
                    measured.append(errors)
                yield part
            if measured:
                errors = torch.cat(measured).double()
                write_json(self._error_path(shard), {
                    'views': len(errors),
                    'worst': dict(zip(ERRORS, errors.amax(0).tolist(), strict=True)),
                    'mean': dict(zip(ERRORS, errors.mean(0).tolist(), strict=True)),
                })  # fmt: skip

        self.write(shard, rows())

    def errors(self) -> tuple[dict[str, float], dict[str, float]]:
        """The largest and the mean of each of `ERRORS` among all views, whose files are all written."""
        parts = [read_json(self._error_path(shard), 'write the cache anew') for shard in range(self.shards)]
        views = sum(part['views'] for part in parts)
        worst = {name: max(part['worst'][name] for part in parts) for name in ERRORS}
        return worst, {name: sum(part['views'] * part['mean'][name] for part in parts) / views for name in ERRORS}

    def _error_path(self, shard: int) -> Path:
        """Where the errors of a file's grids lie."""
        return self.path(shard).with_suffix('.error.json')


def _field(rows: np.ndarray, name: str) -> Tensor:
    """A field of rows. Fields of packed rows need not lie at a multiple of their size, which torch wants."""
    return torch.from_numpy(np.ascontiguousarray(rows[name]))
