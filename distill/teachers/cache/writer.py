"""Write a teacher's cache, in one process or several, and verify it by predicting some views again."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import barrier, get_dist_info, init_dist
from mmengine.registry import DATA_SAMPLERS, DATASETS, MODELS
from torch import Tensor
from torch.utils.data import DataLoader

from backbones.checkpoint import weights_sha256
from distill.base.processes import join_on_cpu
from distill.data.plan import ViewPlan
from distill.data.preprocessor import ViewPreprocessor
from distill.teachers.cache.describe import describe_run, describe_teacher, require_view_sampler
from distill.teachers.cache.manifest import MANIFEST, Layout, Manifest, TeacherIdentity, require_equal
from distill.teachers.cache.rows import Rows
from distill.teachers.cache.space import require_space
from distill.teachers.cache.store import Store

TOLERANCE = 0.01
"""Largest difference of a probability that `CacheWriter.verify` lets pass: rounding makes 0.001 in half precision."""


class ViewWriter(ABC):
    """Run a teacher on the views that training with a config would show it, and write its answers.

    Args:
        config: Config of a distillation.
        directory: Folder of the cache. Files that an earlier, interrupted writer left there are kept.
        views: Views of each image; None for as many as training shows.
        share: Number of this process, from 0, and how many there are, of processes that write a share of the files each
            and know nothing of one another; None for those of a launcher.

    Attributes:
        dataset: The training set.
        sampler: Its sampler.
        views: Views of each image.
        rank: Number of this process.
        world_size: Number of processes that write together.
        plan: The views to answer.
        store: The files to write; a subclass sets it by `_claim`.

    Raises:
        ValueError: There cannot be so many views, or the config does not say how many it shows.
    """

    store: Rows

    def __init__(self, config: Config, directory: Path, views: int | None, share: tuple[int, int] | None = None):
        self.directory, self.loader = directory, config.train_dataloader
        # The teacher sees clean views: corrupted copies are the student's.
        self.dataset = DATASETS.build({key: value for key, value in self.loader.dataset.items() if key != 'corrupt'})
        self.sampler = DATA_SAMPLERS.build(self.loader.sampler, default_args=dict(dataset=self.dataset, seed=0))
        require_view_sampler(self.sampler)
        place: tuple[int, int] = share or get_dist_info()
        self.rank, self.world_size = place
        self.plan: ViewPlan = self.sampler.plan
        if views is None:
            if 'max_epochs' not in config.train_cfg:
                raise ValueError(
                    f'{config.filename} trains by iterations; say by --views how many of each image to store'
                )
            views = config.train_cfg.max_epochs * self.plan.repeats
        self.plan.epochs(views)  # Raises for a wrong number.
        self.views = views

    @abstractmethod
    def _ask(self, images: Tensor, keys: Tensor) -> Any:
        """The teacher's answer to a batch of normalised views [N, 3, H, W] with their keys [N, 2]."""

    @abstractmethod
    def _write(self, shard: int, answers: Iterable[Any]) -> None:
        """Write a file of answers."""

    @property
    @abstractmethod
    def preprocessor(self) -> ViewPreprocessor:
        """What makes a batch of views."""

    def write(self, track: Callable[[Iterable, int], Iterable] = lambda batches, total: batches) -> None:
        """Write the files that are missing; of n processes each writes every n-th.

        Args:
            track: Called with an iterable of batches and their number, which it passes on with a progress bar.
        """
        missing = [shard for shard in self.store.missing() if shard % self.world_size == self.rank]
        spans = [self.store.span(shard) for shard in missing]
        total = sum(-(-len(span) // self._batch_size) for span in spans)
        batches = (rows for span in spans for rows in self._batches(span))
        answers = iter(track(self._answers(batches), total))
        for shard, span in zip(missing, spans, strict=True):
            self.store.write_keys(shard, self.plan.keys(np.arange(span.start, span.stop)))
            self._write(shard, (next(answers) for _ in self._batches(span)))
        # A progress bar ends when it is asked for more than there is.
        next(answers, None)
        barrier()

    def _claim(self, manifest: Manifest) -> None:
        """Write the manifest into the folder, or compare it with the one that is there."""
        if (self.directory / MANIFEST).is_file():
            require_equal(Manifest.read(self.directory), manifest, self.directory)
        elif self.rank == 0:
            manifest.write(self.directory)
        barrier()
        if not (self.directory / MANIFEST).is_file():
            raise ValueError(
                f"cache '{self.directory}' has no manifest yet, which the first share writes when it starts; begin "
                f'with share 0/{self.world_size}'
            )

    def _pairs(self, samples: int) -> list[np.ndarray]:
        """Rows of some pairs of views, drawn from all, in batches."""
        pairs = np.random.default_rng(0).permutation(self.store.rows // 2)[:samples]
        rows = np.sort(np.concatenate([2 * pairs, 2 * pairs + 1]))
        return np.split(rows, range(self._batch_size, len(rows), self._batch_size))

    @property
    def _batch_size(self) -> int:
        return max(self.loader.batch_size // 2 * 2, 2)

    def _batches(self, rows: range) -> Iterator[np.ndarray]:
        for start in range(rows.start, rows.stop, self._batch_size):
            yield np.arange(start, min(start + self._batch_size, rows.stop))

    @torch.no_grad()
    def _answers(self, batches: Iterable[np.ndarray]) -> Iterator[Any]:
        """The teacher's answer to each batch of rows."""
        keys = (list(map(tuple, self.plan.keys(rows).tolist())) for rows in batches)
        workers = self.loader.get('num_workers', 0)
        for data in DataLoader(self.dataset, batch_sampler=keys, num_workers=workers):
            prepared = self.preprocessor(data, True)
            yield self._ask(prepared['images'], prepared['keys'])


class CacheWriter(ViewWriter):
    """Write the predictions of the teacher of a training config.

    Args:
        config: Config of a distillation with a live teacher.
        directory: Folder of the cache. Files that an earlier, interrupted writer left there are kept.
        views: Views of each image; None for as many as training shows.
        topk: Classes to store of each prediction; None for all.
        dtype: ``float16`` or ``float32``.
        device: Where the teacher runs.
        number: Number of the teacher, from 0, if the config has a list.
        tell: Called with a line about the space that the cache takes, before anything is written.
        share: As for `ViewWriter`.

    Raises:
        ValueError: The config has no such live teacher or mixes by the batch, ``topk`` or ``views`` is impossible,
            the disk is too small, or the folder holds another cache.
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
        tell: Callable[[str], None] = lambda line: None,
        share: tuple[int, int] | None = None,
    ):
        teacher = live_teacher(config, number)
        super().__init__(config, directory, views, share)
        self.model = MODELS.build({**config.model, 'teacher': teacher}).to(device).eval()
        run = describe_run(self.dataset, self.sampler, self.preprocessor)
        num_classes = self.model.teacher.num_classes
        topk = num_classes if topk is None else topk
        if not 1 <= topk <= num_classes:
            raise ValueError(f'--topk is {topk} and the teacher has {num_classes} classes; give 1 to {num_classes}')
        # Of the network itself, since a teacher with timm's pretrained weights has no checkpoint to describe.
        weights = weights_sha256(self.model.teacher.network.state_dict())
        identity: TeacherIdentity = {'weights_sha256': weights, **describe_teacher(teacher)}
        self.model.teacher.order_classes(self.dataset)
        if self.model.teacher.places is not None:
            identity['classes'] = self.dataset.classes
        layout = Layout(self.views, num_classes, topk, dtype)
        manifest = Manifest(layout, identity, run)
        self.store: Store = layout.store(directory, manifest.rows)
        require_space(self.store, tell)
        self._claim(manifest)

    @property
    def preprocessor(self) -> ViewPreprocessor:
        """What makes a batch of views."""
        return self.model.data_preprocessor

    def _ask(self, images: Tensor, keys: Tensor) -> Tensor:
        return self.model.teacher(self.preprocessor.view_batch(images)).logits.float()

    def _write(self, shard: int, answers: Iterable[Tensor]) -> None:
        self.store.write(shard, map(self.store.pack, answers))

    def verify(self, samples: int) -> float:
        """Predict some views again and compare.

        Args:
            samples: Number of pairs of views.

        Returns:
            The largest difference between a stored and a computed probability.

        Raises:
            ValueError: The difference is larger than rounding explains.
        """
        batches, worst = self._pairs(samples), 0.0
        for numbers, prediction in zip(batches, self._answers(batches), strict=True):
            stored = self.store.unpack(self.store.read(numbers)).softmax(dim=1)
            computed = self.store.unpack(self.store.pack(prediction)).softmax(dim=1)
            worst = max(worst, (stored - computed).abs().max().item())
        if worst > TOLERANCE:
            raise ValueError(
                f"cache '{self.store.directory}' differs from the teacher by {worst:.3g} in a probability; "
                'delete it and write it again'
            )
        return worst


def live_teacher(config: Config, number: int) -> dict:
    """The config of the teacher to run, without its weight among several.

    Args:
        config: Config of a distillation.
        number: Number of the teacher, from 0, if the config has a list.

    Raises:
        ValueError: There is no such teacher, or it comes from a cache itself.
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
