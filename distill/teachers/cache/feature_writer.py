"""Write the cache of a teacher's features: sample, fit the codec of the grids, then view by view."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import barrier
from mmengine.registry import MODELS
from torch import Tensor

from distill.data.preprocessor import ViewPreprocessor
from distill.teachers.build import OF_TRAINING, build_feature_teacher
from distill.teachers.cache.describe import describe_features, describe_run
from distill.teachers.cache.feature_layout import FeatureLayout, GridLayout, LogitLayout, PooledLayout
from distill.teachers.cache.feature_store import FeatureStore
from distill.teachers.cache.grid_codec import GridCodec, sample_tokens
from distill.teachers.cache.manifest import MANIFEST, FeatureIdentity, Manifest
from distill.teachers.cache.space import require_space
from distill.teachers.cache.writer import ViewWriter
from distill.teachers.protocol import Features

TOLERANCE = 0.01
"""Largest difference, in units of the root mean square, that `FeatureWriter.verify` lets pass."""


@dataclass(frozen=True)
class Stored:
    """What is stored of features.

    Attributes:
        dtype: Type of pooled embeddings and logits, ``float16`` or ``float32``.
        topk: Classes to store of each prediction; None for all.
        grid_dims: Components to store of each cell of a grid, or all channels if these are fewer.
        grid_dtype: Their type, ``int8`` or ``float16``.
        fit_views: Views of the sample on which the components are found.
    """

    dtype: str = 'float16'
    topk: int | None = None
    grid_dims: int = 64
    grid_dtype: str = 'int8'
    fit_views: int = 256


class FeatureWriter(ViewWriter):
    """Write the features of a teacher of a feature distillation.

    Args:
        config: Config of a feature distillation with a live teacher.
        directory: Folder of the cache. Files that an earlier, interrupted writer left there are kept.
        views: Views of each image; None for as many as training shows.
        stored: What is stored.
        device: Where the teacher runs.
        teacher: Number of the teacher among those of the config, from 0, or its name.
        tell: Called with a line about the space that the cache takes before anything is written, and with one about
            the error of the grids when all are written.
        share: As for `ViewWriter`.

    Attributes:
        teacher: The teacher.
        wanted: What the losses need of it, among ``pooled``, ``grid`` and ``logits``.

    Raises:
        ValueError: The config has no such live teacher or mixes by the batch, a number is impossible, the disk is too
            small, or the folder holds another cache.
    """

    def __init__(
        self,
        config: Config,
        directory: Path,
        views: int | None = None,
        stored: Stored = Stored(),
        device: str = 'cpu',
        teacher: int | str = 0,
        tell: Callable[[str], None] = lambda line: None,
        share: tuple[int, int] | None = None,
    ):
        given = live_features(config, teacher)
        super().__init__(config, directory, views, share)
        self.tell = tell
        preprocessor = config.model.get('data_preprocessor') or dict(type='ViewPreprocessor')
        self._preprocessor: ViewPreprocessor = MODELS.build(preprocessor).to(device)
        self.run = describe_run(self.dataset, self.sampler, self._preprocessor)
        self.wanted = wanted_features(given)
        model = {key: value for key, value in given.items() if key not in (*OF_TRAINING, 'cache')}
        self.teacher = build_feature_teacher(model)
        self.teacher.apply(lambda tensor: tensor.to(device))
        identity = describe_features(self.teacher, model)
        self.layout = _layout(self.views, next(self._answers([np.arange(2)])), stored)
        rows = Manifest(self.layout, identity, self.run).rows
        self.store: FeatureStore = self.layout.store(directory, rows)
        require_space(self.store, tell)
        self._fit_or_compare(identity, stored.fit_views)
        self.store = self.layout.open_store(directory, rows)

    def _fit_or_compare(self, identity: FeatureIdentity, fit_views: int) -> None:
        """Fit the codec and write the manifest, or compare it with the one that is there."""
        if (self.directory / MANIFEST).is_file():
            before = getattr(Manifest.read(self.directory).cache, 'grid', None)
            if before is not None:
                self._set_grid(sha256=before.sha256, worst=before.worst, mean=before.mean)
        elif self.rank == 0 and self.layout.grid is not None:
            codec = self._fit(fit_views, self.layout.grid)
            self._set_grid(sha256=codec.write(self.directory))
        self._claim(Manifest(self.layout, identity, self.run))
        self.manifest = Manifest.read(self.directory)
        if isinstance(self.manifest.cache, FeatureLayout):  # The codec is that of the first process.
            self.layout = self.manifest.cache

    def _fit(self, fit_views: int, grid: GridLayout) -> GridCodec:
        """Find the components of the grids of a sample of views, drawn from all."""
        batches = self._pairs(max(fit_views // 2, 1))
        views = sum(map(len, batches))
        answers = self._answers(batches)
        tokens = [sample_tokens(one.grid, views, seed) for seed, one in enumerate(answers) if one.grid is not None]
        return GridCodec.fit(torch.cat(tokens), grid.dims, grid.dtype)

    def _set_grid(self, **changes: Any) -> None:
        if self.layout.grid is not None:
            self.layout = replace(self.layout, grid=replace(self.layout.grid, **changes))

    @property
    def preprocessor(self) -> ViewPreprocessor:
        """What makes a batch of views."""
        return self._preprocessor

    def _ask(self, images: Tensor, keys: Tensor) -> Features:
        return self.teacher(self._preprocessor.view_batch(images, keys), self.wanted)

    def _write(self, shard: int, answers: Iterable[Features]) -> None:
        self.store.write_measured(shard, map(self.store.pack, answers))

    def write(self, track: Callable[[Iterable, int], Iterable] = lambda batches, total: batches) -> None:
        """Write the files that are missing, and into the manifest the error of the grids when all are there.

        Args:
            track: Called with an iterable of batches and their number, which it passes on with a progress bar.
        """
        super().write(track)
        if self.rank == 0 and self.layout.grid is not None and not self.store.missing():
            worst, mean = self.store.errors()
            self._set_grid(worst=worst, mean=mean)
            self.manifest = replace(self.manifest, cache=self.layout)
            self.manifest.write(self.directory)
            self.tell(
                f'error of the grids: {mean["rms_mean_std"]:.3g} of the standard deviation '
                f'(worst view {worst["rms_mean_std"]:.3g}), {mean["chord_none"]:.3g} of the direction '
                f'(worst view {worst["chord_none"]:.3g})'
            )
        barrier()

    @property
    def grid_error(self) -> dict[str, float] | None:
        """The largest of each error of a view's grid, when all are written; None if no grid is stored."""
        return None if self.layout.grid is None else self.layout.grid.worst

    def verify(self, samples: int) -> float:
        """Compute the features of some views again and compare.

        Args:
            samples: Number of pairs of views.

        Returns:
            The largest difference between a stored and a computed value, in units of the root mean square of the
            computed ones: of pooled embeddings, of decoded grids, of logits as probabilities.

        Raises:
            ValueError: The difference is larger than rounding explains.
        """
        batches, worst = self._pairs(samples), 0.0
        for numbers, features in zip(batches, self._answers(batches), strict=True):
            stored = self.store.unpack(self.store.read(numbers))
            computed = self.store.unpack(self.store.pack(features)[0])
            for one, other in _pairs_of(stored, computed):
                worst = max(worst, ((one - other).abs().max() / other.square().mean().sqrt()).item())
        if worst > TOLERANCE:
            raise ValueError(
                f"cache '{self.directory}' differs from the teacher by {worst:.3g} of the size of its features; "
                'delete it and write it again'
            )
        return worst


def live_features(config: Config, teacher: int | str) -> dict:
    """The config of the teacher to run.

    Args:
        config: Config of a feature distillation.
        teacher: Number of the teacher, from 0, or its name.

    Raises:
        ValueError: There is no such teacher, or it comes from a cache itself.
    """
    teachers = list(config.model.get('teachers') or [])
    names = [one.get('name', f'number {place}') for place, one in enumerate(teachers)]
    place = names.index(teacher) if teacher in names else teacher
    if not isinstance(place, int) or not 0 <= place < len(teachers):
        raise ValueError(f"{config.filename} has no teacher '{teacher}'; choose from {', '.join(names)}")
    if teachers[place].get('cache') is not None:
        raise ValueError(f"teacher '{names[place]}' of {config.filename} comes from a cache itself; drop its cache")
    return dict(teachers[place])


def wanted_features(teacher: Mapping) -> tuple[str, ...]:
    """What the losses of a teacher need of it, among ``pooled``, ``grid`` and ``logits``."""
    asked = {loss.get('on', 'pooled') for loss in teacher.get('losses', ())}
    return tuple(kind for kind in ('pooled', 'grid', 'logits') if kind in asked)


def _layout(views: int, sample: Features, stored: Stored) -> FeatureLayout:
    """How features like those of a sample are stored."""
    pooled = grid = logits = None
    if sample.pooled is not None:
        pooled = PooledLayout(sample.pooled.shape[1], stored.dtype)
    if sample.logits is not None:
        classes = sample.logits.shape[1]
        if stored.topk is not None and stored.topk > classes:
            raise ValueError(f'--topk is {stored.topk} and the teacher has {classes} classes; give 1 to {classes}')
        logits = LogitLayout(classes, stored.topk or classes, stored.dtype)
    if sample.grid is not None:
        chs, height, width = sample.grid.shape[1:]
        grid = GridLayout(chs, height, width, min(stored.grid_dims, chs), stored.grid_dtype, stored.fit_views)
    return FeatureLayout.of(views, pooled=pooled, grid=grid, logits=logits)


def _pairs_of(stored: Features, computed: Features) -> Iterator[tuple[Tensor, Tensor]]:
    """The features that are there, of both; logits as probabilities."""
    for kind in ('pooled', 'grid', 'logits'):
        one, other = getattr(stored, kind), getattr(computed, kind)
        if one is not None:
            yield (one.softmax(1), other.softmax(1)) if kind == 'logits' else (one, other)
