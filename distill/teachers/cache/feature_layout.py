"""How a teacher's features are stored: what of them, in which type, and with which error."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distill.teachers.cache.feature_store import FeatureStore
from distill.teachers.cache.grid_codec import DTYPES as GRID_DTYPES
from distill.teachers.cache.grid_codec import ERRORS, GridCodec
from distill.teachers.cache.store import Store

DTYPES = ('float16', 'float32')
KIND = 'features'


@dataclass(frozen=True)
class PooledLayout:
    """Pooled embeddings, as they are.

    Attributes:
        chs: Channels.
        dtype: ``float16`` or ``float32``.
    """

    chs: int
    dtype: str


@dataclass(frozen=True)
class GridLayout:
    """A grid of embeddings, compressed by a `GridCodec`.

    Attributes:
        chs: Channels.
        height: Cells from top to bottom.
        width: Cells from left to right.
        dims: Components that are stored of each cell.
        dtype: ``int8`` or ``float16``.
        fit_views: Views of the sample that the components were found on.
        sha256: Hash of the codec's file; empty until it is written.
        worst: The largest of each of `ERRORS` among all views; empty until all are written.
        mean: The mean of each of `ERRORS` over all views; empty until all are written.
    """

    chs: int
    height: int
    width: int
    dims: int
    dtype: str
    fit_views: int
    sha256: str = ''
    worst: dict[str, float] = field(default_factory=dict)
    mean: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LogitLayout:
    """Logits of a teacher with a classifier, as `distill.teachers.cache.store.Store` has them.

    Attributes:
        num_classes: Classes of the teacher.
        topk: Stored classes of a prediction.
        dtype: ``float16`` or ``float32``.
    """

    num_classes: int
    topk: int
    dtype: str


@dataclass(frozen=True)
class FeatureLayout:
    """How features are stored. A part that the losses do not need is None, and takes no space.

    Attributes:
        views: Views of each image.
        pooled: Pooled embeddings.
        grid: The grid.
        logits: Logits.
        kind: Tells features from predictions.
        row: The fields of a row in their order, each as name, numpy's type, and shape.
    """

    views: int
    pooled: PooledLayout | None = None
    grid: GridLayout | None = None
    logits: LogitLayout | None = None
    kind: str = KIND
    row: list[list[Any]] = field(default_factory=list)

    @classmethod
    def of(cls, views: int, **parts) -> 'FeatureLayout':
        """A layout with its row.

        Args:
            views: Views of each image.
            **parts: The parts by name.
        """
        bare = cls(views, **parts)
        kinds: Mapping[str, Any] = bare.store(Path(), 0).row_type.fields or {}
        row = [[name, kind.base.str, list(kind.shape)] for name, (kind, *_) in kinds.items()]
        return cls(views, **parts, row=row)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> 'FeatureLayout':
        """The layout of a manifest's part.

        Raises:
            TypeError: A value cannot be.
        """
        kinds: dict[str, Any] = dict(pooled=PooledLayout, grid=GridLayout, logits=LogitLayout)
        parts = {name: kind(**content[name]) for name, kind in kinds.items() if content[name] is not None}
        for name, part in parts.items():
            counts = {key: value for key, value in asdict(part).items() if kinds[name].__annotations__[key] is int}
            for key, value in counts.items():
                if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                    raise TypeError(f'{name}.{key} is {value!r}')
            known = GRID_DTYPES if name == 'grid' else DTYPES
            if part.dtype not in known:
                raise TypeError(f'{name}.dtype is {part.dtype!r} and not one of {", ".join(known)}')
        views = content['views']
        if isinstance(views, bool) or not isinstance(views, int) or views < 1 or not parts:
            raise TypeError(f'views is {views!r}, of {", ".join(parts) or "nothing"}')
        layout = cls.of(views, **parts)
        if layout.row != content['row']:
            raise TypeError(f'row is {content["row"]!r}')
        return layout

    @property
    def complete(self) -> bool:
        """Whether the error of the grid is known, which it is when all views are written."""
        return self.grid is None or set(self.grid.worst) == set(self.grid.mean) == set(ERRORS)

    def store(self, directory: Path, rows: int) -> FeatureStore:
        """The files of features in a folder, of which only the sizes are known without `open_store`.

        Args:
            directory: Folder of the files.
            rows: Number of rows.
        """
        logits = None if self.logits is None else Store(directory, rows, **asdict(self.logits))
        pooled = None if self.pooled is None else (self.pooled.chs, self.pooled.dtype)
        grid = None
        if self.grid is not None:
            grid = (self.grid.height, self.grid.width, self.grid.dims, self.grid.dtype)
        return FeatureStore(directory, rows, pooled, grid, logits)

    def open_store(self, directory: Path, rows: int) -> FeatureStore:
        """The files of features in a folder, with the codec of their grids.

        Args:
            directory: Folder of the files.
            rows: Number of rows.

        Raises:
            FileNotFoundError: The codec is not there.
            ValueError: It is not the one that the cache was written with.
        """
        store = self.store(directory, rows)
        if self.grid is None:
            return store
        return store.with_codec(GridCodec.read(directory, self.grid.dtype, self.grid.sha256))

    def row_type(self) -> np.dtype:
        """A row as numpy has it."""
        return np.dtype([(name, kind, tuple(shape)) for name, kind, shape in self.row])
