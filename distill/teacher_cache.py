"""Teacher predictions on disk, for views that are replayed bit for bit.

A cache is a folder with flat files of rows, one row for each view of each image in the order of a `ViewPlan`, and a
manifest of all that a prediction depends on. A row holds the largest K probabilities and their classes, or those of
all classes alone. Probabilities are stored as logarithms, which do not underflow in half precision and keep the tail:
1 − 0.9999 is lost in a probability of 11 bits. In single precision all classes are stored as the logits that they
are, so that training from the cache repeats training with the teacher to the last bit.
"""

import functools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from backbones.checkpoint import read_weights, resolve_model, weights_sha256
from distill.data import Views, ViewSampler, list_sha256
from distill.plan import ViewPlan
from distill.views import ViewPreprocessor

MANIFEST = 'manifest.json'
FORMAT = 1
"""Raise it when the rows, or the views of a seed, change."""

VERSIONED = ('torch', 'torchvision', 'timm', 'numpy', 'pillow', 'robust-backbones')
"""Packages that make views or predictions."""

LARGEST_SHARD = 2**15
LEAST_TAIL = 1e-8
"""Probability of all classes that are not stored, where rounding leaves none. Keeps the logarithm finite."""


@dataclass(frozen=True)
class Store:
    """Predictions in files of a fixed number of rows each. A file is there when it is complete.

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
        """A row as numpy sees it."""
        fields = [('logit', np.dtype(self.dtype), (self.topk,))]
        if self.topk < self.num_classes:
            fields.append(('class', np.uint16 if self.num_classes <= 2**16 else np.int32, (self.topk,)))
        return np.dtype(fields)

    @property
    def shard_rows(self) -> int:
        """Rows of a file, an even number: a sixteenth of all, so that a few processes can share, or less."""
        return min(2 * -(-self.rows // 32), LARGEST_SHARD)

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard_rows)

    def span(self, shard: int) -> range:
        """The rows of a file."""
        return range(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.rows))

    def path(self, shard: int) -> Path:
        return self.directory / f'{shard:06d}.rows'

    def missing(self) -> list[int]:
        """Files that are not written yet."""
        return [shard for shard in range(self.shards) if not self.path(shard).is_file()]

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
        """Logits [N, C] of rows [N]; what the stored classes leave is spread evenly over the others."""
        logits = torch.from_numpy(rows['logit'].astype(np.float32)).to(device)
        if self.topk == self.num_classes:
            return logits
        classes = torch.from_numpy(rows['class'].astype(np.int64)).to(device)
        tail = (1 - logits.exp().sum(dim=1, keepdim=True)).clamp(min=LEAST_TAIL) / (self.num_classes - self.topk)
        return tail.log().repeat(1, self.num_classes).scatter_(1, classes, logits)

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Rows [N] by their numbers [N]."""
        rows = np.empty(len(numbers), self.row_type)
        shards, places = np.divmod(numbers, self.shard_rows)
        for shard in np.unique(shards):
            here = shards == shard
            rows[here] = _mapped(self.path(shard), self.row_type, len(self.span(shard)))[places[here]]
        return rows


@functools.lru_cache(maxsize=512)
def _mapped(path: Path, row_type: np.dtype, rows: int) -> np.ndarray:
    """A file as an array, which the system reads ahead."""
    if path.stat().st_size != rows * row_type.itemsize:
        raise ValueError(f"'{path}' is damaged: it has not {rows} rows; delete it and write it again")
    with path.open('rb') as file:
        if hasattr(os, 'posix_fadvise'):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        return np.memmap(file, row_type, 'r')


class CachedTeacher:
    """A teacher that is not there: its predictions come from a cache.

    No network is built and no weight is loaded into one. If the teacher's checkpoint is named and exists, its
    weights must be those that the cache was written with.

    Args:
        cache: Folder of the cache.
        **model: The teacher as it would be configured without a cache; compared with the manifest.

    Attributes:
        features: Whether it gives feature maps.
        exact: Whether it gives the logits of all classes, up to rounding.
        epochs: Epochs after which the views start again.

    Raises:
        FileNotFoundError: There is no cache.
        ValueError: The cache is not complete, or is another teacher's.
    """

    features = False

    def __init__(self, cache: str | os.PathLike, **model):
        self.cache = Path(cache)
        self.manifest = read_manifest(self.cache)
        self.store = store_of(self.cache, self.manifest)
        missing = self.store.missing()
        if missing:
            raise ValueError(
                f"cache '{cache}' lacks {len(missing)} of {self.store.shards} files; "
                'run the tools/cache_teacher.py that writes it again, it goes on where it stopped'
            )
        written = self.manifest['teacher']
        require_equal(written, {**written, **describe_teacher(model)}, self.cache)
        self.source = {**written, 'cache': str(cache)}
        self.plan = plan_of(self.manifest)
        self.epochs = self.plan.epochs(self.manifest['cache']['views'])
        self.num_classes: int = self.store.num_classes
        self.exact: bool = self.store.topk == self.store.num_classes

    def apply(self, fn) -> None:
        """There is nothing to move to a device."""

    def __deepcopy__(self, memo) -> 'CachedTeacher':
        return self

    def check(self, dataset: Views, sampler: ViewSampler, preprocessor: ViewPreprocessor) -> None:
        """Compare a run's views with those of the cache, and let the sampler start again where the cache ends.

        Raises:
            ValueError: Something differs; the message says what.
        """
        require_equal(self.manifest['run'], describe_run(dataset, sampler, preprocessor), self.cache)
        sampler.epochs = min(sampler.epochs or self.epochs, self.epochs)

    def __call__(
        self, images: Tensor, mean: Tensor, std: Tensor, keys: Tensor | None = None, layers: tuple = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Look predictions up.

        Args:
            images: Gives the device only.
            mean: Not used.
            std: Not used.
            keys: Image and view [B, 2].
            layers: Must be empty: feature maps are not in the cache.

        Returns:
            Logits [B, K], up to a constant for each image, and no maps.

        Raises:
            ValueError: ``layers`` are asked for, or there are no keys.
        """
        if layers or keys is None:
            what = f'layers {tuple(layers)}' if layers else 'images without their keys'
            raise ValueError(f"cache '{self.cache}' has no prediction for {what}; drop model.teacher.cache")
        rows = self.store.read(self.plan.rows(keys.cpu().numpy()))
        return self.store.unpack(rows, images.device), []


def read_manifest(cache: Path) -> dict:
    """The manifest of a cache.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It cannot be read, or is of another format.
    """
    path = cache / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"'{cache}' has no {MANIFEST}; write the cache by tools/cache_teacher.py")
    try:
        manifest = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"'{path}' is not valid JSON ({error}); write the cache again") from None
    if manifest.get('format') != FORMAT:
        raise ValueError(f"cache '{cache}' has format {manifest.get('format')}, and {FORMAT} is read; write it again")
    return manifest


def make_manifest(teacher: dict, run: dict, num_classes: int, views: int, topk: int, dtype: str) -> dict:
    """All that the predictions of a cache depend on, and how they are stored."""
    cache = dict(views=views, num_classes=num_classes, topk=topk, dtype=dtype)
    return {'format': FORMAT, 'cache': cache, 'teacher': teacher, 'run': run}


def plan_of(manifest: Mapping) -> ViewPlan:
    """The plan that a manifest describes."""
    views = manifest['run']['views']
    return ViewPlan(manifest['run']['data']['images'], views['repeats'], views['shuffle'], views['seed'])


def store_of(directory: Path, manifest: Mapping) -> Store:
    """The files that a manifest describes."""
    cache, plan = manifest['cache'], plan_of(manifest)
    rows = plan.epochs(cache['views']) * plan.rows_per_epoch
    return Store(directory, rows, cache['num_classes'], cache['topk'], cache['dtype'])


def describe_run(dataset: Views, sampler: ViewSampler, preprocessor: ViewPreprocessor) -> dict:
    """What decides the views of a run, in plain values."""
    if not isinstance(sampler, ViewSampler):
        raise ValueError(f'the sampler is a {type(sampler).__name__}; a teacher cache needs a ViewSampler')
    plan = sampler.plan
    return plain(
        {
            'data': {
                'images': len(dataset),
                'classes': len(dataset.classes),
                'list_sha256': list_sha256(dataset.reader),
            },
            'views': {
                'seed': dataset.seed,
                'transform': dataset.transform_config,
                'repeats': plan.repeats,
                'shuffle': plan.shuffle,
            },
            'batch': preprocessor.describe(),
            'versions': {name: version(name) for name in VERSIONED},
        }
    )


def describe_teacher(config: Mapping) -> dict:
    """What a teacher's config fixes, as far as it is named and at hand.

    Args:
        config: Arguments of `backbones.checkpoint.build_model`.

    Returns:
        ``model`` and ``model_kwargs``, and ``weights_sha256`` of a checkpoint.
    """
    config = {k: v for k, v in config.items() if k != 'pretrained'}
    name, checkpoint = config.pop('model', None), config.pop('checkpoint', None)
    if checkpoint is not None and Path(checkpoint).is_file():
        name, config = resolve_model(name, checkpoint, config)
        weights = {'weights_sha256': weights_sha256(read_weights(checkpoint))}
        return plain({'model': name, 'model_kwargs': config, **weights})
    return plain({'model': name, 'model_kwargs': config}) if name is not None and checkpoint is None else {}


def version(package: str) -> str | None:
    """Version of an installed package without its build; None for one that is not installed but on the path."""
    try:
        return metadata.version(package).partition('+')[0]
    except metadata.PackageNotFoundError:
        return None


def plain(value):
    """The value as it comes back from a JSON file."""
    return json.loads(json.dumps(value))


def require_equal(written: Mapping, now: Mapping, cache: Path) -> None:
    """Compare what a cache was written with and what there is now.

    Raises:
        ValueError: They differ; the message has each difference.
    """
    found = differences(written, now)
    if found:
        raise ValueError(
            f"cache '{cache}' does not fit: {'; '.join(found)}; restore that, or write another cache by "
            'tools/cache_teacher.py'
        )


def differences(written, now, name: str = '') -> list[str]:
    """What differs between two trees of plain values, one sentence a leaf."""
    if isinstance(written, Mapping) and isinstance(now, Mapping):
        return [
            found
            for key in sorted({*written, *now})
            for found in differences(written.get(key), now.get(key), f'{name}.{key}'.lstrip('.'))
        ]
    return [] if written == now else [f'{name} was {written} and is {now}']
