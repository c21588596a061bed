"""Writing a teacher's cache, by one process or several, and trying whether it tells the truth."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_dist_info, init_dist
from mmengine.registry import DATA_SAMPLERS, DATASETS, MODELS
from torch import Tensor
from torch.utils.data import DataLoader

from backbones.checkpoint import weights_sha256
from backbones.files import atomic_write
from distill.base.files import write_json
from distill.base.processes import join_on_cpu
from distill.teachers.cache.manifest import (
    MANIFEST,
    describe_run,
    describe_teacher,
    make_manifest,
    plan_of,
    read_manifest,
    require_equal,
    store_of,
)
from distill.teachers.cache.store import Store

TOLERANCE = 0.01
"""Largest difference of a probability that `CacheWriter.verify` lets pass: rounding makes 0.001 in half precision."""


class CacheWriter:
    """Runs the teacher of a training config on the views that training with this config would show it.

    Args:
        config: Config of a distillation with a live teacher.
        directory: Folder of the cache. What an earlier, interrupted writer left there is kept.
        views: Views of each image; None for as many as training shows.
        topk: Classes to store of each prediction; None for all.
        dtype: ``float16`` or ``float32``.
        device: Where the teacher runs.
        number: Which teacher, if the config has a list.

    Raises:
        ValueError: The config has no such live teacher or mixes by the batch, ``topk`` or ``views`` is impossible,
            or the folder holds another cache.
    """

    def __init__(
        self,
        config: Config,
        directory: Path,
        views: int | None = None,
        topk: int | None = None,
        dtype: str = 'float16',
        device: str = 'cpu',
        number: int = 0,
    ):
        teacher = live_teacher(config, number)
        self.loader = config.train_dataloader
        self.dataset = DATASETS.build(self.loader.dataset)
        sampler = DATA_SAMPLERS.build(self.loader.sampler, default_args=dict(dataset=self.dataset, seed=0))
        self.model = MODELS.build({**config.model, 'teacher': teacher}).to(device).eval()
        self.rank, self.world_size = get_dist_info()

        run = describe_run(self.dataset, sampler, self.model.data_preprocessor)
        views = config.train_cfg.max_epochs * sampler.plan.repeats if views is None else views
        sampler.plan.epochs(views)  # raises for a wrong number
        num_classes = self.model.teacher.num_classes
        topk = num_classes if topk is None else topk
        if not 1 <= topk <= num_classes:
            raise ValueError(f'--topk is {topk} and the teacher has {num_classes} classes; give 1 to {num_classes}')
        manifest = make_manifest(self._describe_teacher(teacher), run, num_classes, views, topk, dtype)
        self._claim(directory, manifest)
        self.plan, self.store = plan_of(manifest), store_of(directory, manifest)

    def _describe_teacher(self, config: dict) -> dict:
        weights = weights_sha256(self.model.teacher.network.state_dict())
        return {'weights_sha256': weights, **describe_teacher(config)}

    def _claim(self, directory: Path, manifest: dict) -> None:
        """Put the manifest into the folder, or see that it is the one that is there."""
        if (directory / MANIFEST).is_file():
            require_equal(read_manifest(directory), manifest, directory)
        elif self.rank == 0:
            write_json(directory / MANIFEST, manifest)
        barrier()

    def write(self, track: Callable[[Iterable, int], Iterable] = lambda batches, total: batches) -> None:
        """Write the files that are missing, every n-th of them in the n-th process.

        Args:
            track: Passes an iterable of so many batches on, with a progress bar.
        """
        missing = [shard for shard in self.store.missing() if shard % self.world_size == self.rank]
        spans = [self.store.span(shard) for shard in missing]
        total = sum(-(-len(span) // self._batch_size) for span in spans)
        batches = (rows for span in spans for rows in self._batches(span))
        predictions = track(self._predictions(batches), total)
        parts: list[np.ndarray] = []
        done = iter(missing)
        shard = next(done, None)
        for prediction in predictions:
            parts.append(self.store.pack(prediction))
            if sum(map(len, parts)) == len(self.store.span(shard)):
                with atomic_write(self.store.path(shard)) as temporary:
                    np.concatenate(parts).tofile(temporary)
                parts, shard = [], next(done, None)
        barrier()

    def verify(self, samples: int) -> float:
        """Compute some predictions again.

        Args:
            samples: How many pairs of views.

        Returns:
            The largest difference between a stored and a computed probability.

        Raises:
            ValueError: The difference is above what rounding explains.
        """
        pairs = np.random.default_rng(0).permutation(self.store.rows // 2)[:samples]
        rows = np.sort(np.concatenate([2 * pairs, 2 * pairs + 1]))
        batches = np.split(rows, range(self._batch_size, len(rows), self._batch_size))
        worst = 0.0
        for numbers, prediction in zip(batches, self._predictions(batches), strict=True):
            stored = self.store.unpack(self.store.read(numbers)).softmax(dim=1)
            computed = self.store.unpack(self.store.pack(prediction)).softmax(dim=1)
            worst = max(worst, (stored - computed).abs().max().item())
        if worst > TOLERANCE:
            raise ValueError(
                f"cache '{self.store.directory}' differs from the teacher by {worst:.3g} in a probability; "
                'delete it and write it again'
            )
        return worst

    @property
    def _batch_size(self) -> int:
        return max(self.loader.batch_size // 2 * 2, 2)

    def _batches(self, rows: range) -> Iterator[np.ndarray]:
        for start in range(rows.start, rows.stop, self._batch_size):
            yield np.arange(start, min(start + self._batch_size, rows.stop))

    @torch.no_grad()
    def _predictions(self, batches: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Logits [N, C] of each batch of rows."""
        keys = (list(map(tuple, self.plan.keys(rows).tolist())) for rows in batches)
        workers = self.loader.get('num_workers', 0)
        preprocessor = self.model.data_preprocessor
        for data in DataLoader(self.dataset, batch_sampler=keys, num_workers=workers):
            images = preprocessor(data, True)['images']
            logits, _ = self.model.teacher(images, preprocessor.mean, preprocessor.std)
            yield logits.float()


def live_teacher(config: Config, number: int) -> dict:
    """The config of the teacher to run.

    Raises:
        ValueError: There is none, or it comes from a cache itself.
    """
    teachers = config.model.get('teacher') or []
    teachers = [teachers] if isinstance(teachers, dict) else teachers
    if not 0 <= number < len(teachers):
        raise ValueError(f'{config.filename} has {len(teachers)} teachers and no number {number}; see model.teacher')
    if 'cache' in teachers[number]:
        raise ValueError(f'teacher {number} of {config.filename} comes from a cache itself; drop model.teacher.cache')
    return {key: value for key, value in teachers[number].items() if key != 'weight'}


def join_processes(launcher: str) -> None:
    """Join the processes that a launcher has started."""
    if not join_on_cpu(launcher) and launcher != 'none':
        init_dist(launcher)


def size_bytes(store: Store) -> int:
    """Bytes of a cache's rows on the disk."""
    return sum(store.path(shard).stat().st_size for shard in range(store.shards))
