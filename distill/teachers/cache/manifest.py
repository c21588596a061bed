"""The manifest of a cache: what its predictions depend on, and how they are stored."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, TypedDict

from distill.base.files import read_json, write_json
from distill.data.plan import Source, ViewPlan, plan_views
from distill.teachers.cache.feature_layout import KIND, FeatureLayout
from distill.teachers.cache.store import Store

MANIFEST = 'manifest.json'
DTYPES = ('float16', 'float32')
FORMAT = 1
"""Raise it when the rows, or the views of a seed, change."""


class TeacherIdentity(TypedDict, total=False):
    """Which teacher predicted, as far as it is known.

    Keys:
        weights_sha256: Hash of the weights, see `backbones.checkpoint.weights_sha256`.
        model: timm's name.
        model_kwargs: Arguments of ``timm.create_model``.
        classes: Names of the classes in the order in which their logits are stored, where the teacher has another.
    """

    weights_sha256: str
    model: str
    model_kwargs: dict[str, Any]
    classes: list[str]


class FeatureIdentity(TeacherIdentity, total=False):
    """Which teacher gave features, and which of its features.

    Keys:
        pooling: How its embeddings are pooled; None for the model's own way.
        layer: Index of the layer of the grid; None for the last.
        size: Height and width in pixels that the teacher was shown; None for those of the views.
        mean: Mean that its images were normalised by.
        std: Standard deviation that its images were normalised by.
        asked: ``pooling``, ``layer`` and ``size`` as the config has them.
    """

    pooling: str | None
    layer: int | None
    size: list[int] | None
    mean: list[float]
    std: list[float]
    asked: dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """How the predictions are stored.

    Attributes:
        views: Views of each image.
        num_classes: Classes of the teacher.
        topk: Stored classes of a prediction.
        dtype: ``float16`` or ``float32``.
    """

    views: int
    num_classes: int
    topk: int
    dtype: str

    def checked(self) -> 'Layout':
        """Return the layout if its values can be.

        Raises:
            TypeError: One cannot.
        """
        counts = (self.views, self.num_classes, self.topk)
        if not all(isinstance(count, int) and count > 0 for count in counts) or self.topk > self.num_classes:
            raise TypeError(f'views, num_classes and topk are {counts}')
        if self.dtype not in DTYPES:
            raise TypeError(f'dtype is {self.dtype!r} and not one of {", ".join(DTYPES)}')
        return self

    def store(self, directory: Path, rows: int) -> Store:
        """The files of predictions in a folder."""
        return Store(directory, rows, self.num_classes, self.topk, self.dtype)


@dataclass(frozen=True)
class ImageList:
    """Which images there are.

    Attributes:
        images: How many.
        classes: In how many classes.
        list_sha256: Hash of their names, sizes and labels, see `distill.data.readers.list_sha256`.
    """

    images: int
    classes: int
    list_sha256: str


@dataclass(frozen=True)
class ViewSettings:
    """What fixes the views of the images.

    Attributes:
        seed: Seed of the views.
        transform: Arguments of timm's `create_transform`.
        repeats: Views of a drawn image in an epoch.
        shuffle: Whether the images of an epoch are drawn in an order of their own.
        sources: Number of images and weight of each of several sets; None for one set, or several without weights.
    """

    seed: int
    transform: dict[str, Any]
    repeats: int
    shuffle: bool
    sources: list[list] | None = None


@dataclass(frozen=True)
class RunViews:
    """What fixes the views that a run shows its teacher.

    Attributes:
        data: The images.
        views: Their views.
        batch: Normalisation, erasing and mixing, see `distill.data.preprocessor.ViewPreprocessor.describe`.
        versions: Versions of the packages that make views or predictions.
    """

    data: ImageList
    views: ViewSettings
    batch: dict[str, Any]
    versions: dict[str, str | None]


@dataclass(frozen=True)
class Manifest:
    """All that the predictions of a cache depend on. Values are plain, as they come back from a JSON file.

    Attributes:
        cache: How the predictions, or the features, are stored.
        teacher: Which teacher predicted.
        run: What fixes the views that the teacher saw.
    """

    cache: Layout | FeatureLayout
    teacher: TeacherIdentity | FeatureIdentity
    run: RunViews

    @classmethod
    def read(cls, folder: Path) -> 'Manifest':
        """Read the manifest of a cache.

        Raises:
            FileNotFoundError: There is none.
            ValueError: It cannot be read, or is of another format.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(f"'{folder}' has no {MANIFEST}; write the cache by tools/cache_teacher.py")
        content = read_json(path, 'write the cache again')
        found = content.get('format') if isinstance(content, dict) else None
        if found != FORMAT:
            raise ValueError(f"cache '{folder}' has format {found}, and {FORMAT} is read; write it again")
        try:
            run = content['run']
            images, views = ImageList(**run['data']), ViewSettings(**run['views'])
            for name, value, kind in (
                *((f'data.{name}', getattr(images, name), int) for name in ('images', 'classes')),
                *((f'views.{name}', getattr(views, name), int) for name in ('seed', 'repeats', 'shuffle')),
                *((name, part, dict) for name, part in (('teacher', content['teacher']), *run.items())),
            ):
                if not isinstance(value, kind):
                    raise TypeError(f'{name} is {value!r}')
            stored = content['cache']
            is_features = isinstance(stored, dict) and stored.get('kind') == KIND
            layout = FeatureLayout.read(stored) if is_features else Layout(**stored).checked()
            return cls(layout, content['teacher'], RunViews(images, views, run['batch'], run['versions']))
        except (KeyError, TypeError) as error:
            raise ValueError(f"'{path}' is no manifest of a cache ({error}); write the cache again") from None

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder of its cache."""
        write_json(folder / MANIFEST, {'format': FORMAT, **asdict(self)})

    @property
    def plan(self) -> ViewPlan:
        """The views of every epoch."""
        views = self.run.views
        sources = None if views.sources is None else [Source(*source) for source in views.sources]
        return plan_views(self.run.data.images, views.repeats, views.shuffle, views.seed, sources)

    @property
    def rows(self) -> int:
        """Number of rows: one for each view of each image."""
        return self.plan.epochs(self.cache.views) * self.plan.rows_per_epoch


def plain(value):
    """The value as it comes back from a JSON file: with lists for tuples, and text for every key."""
    return json.loads(json.dumps(value))


def require_equal(written, now, cache: Path) -> None:
    """Compare what a cache was written with and what there is now.

    Args:
        written: A manifest, or a part of one.
        now: The same part, of now.
        cache: Folder of the cache, for the error.

    Raises:
        ValueError: They differ; the message has each difference.
    """
    found = _differences(_tree(written), _tree(now))
    if found:
        raise ValueError(
            f"cache '{cache}' does not fit: {'; '.join(found)}; restore that, or write another cache by "
            'tools/cache_teacher.py'
        )


def _tree(part):
    return asdict(part) if is_dataclass(part) and not isinstance(part, type) else part


def _differences(written, now, name: str = '') -> list[str]:
    """What differs between two trees of plain values, one sentence a leaf."""
    if isinstance(written, Mapping) and isinstance(now, Mapping):
        return [
            found
            for key in sorted({*written, *now})
            for found in _differences(written.get(key), now.get(key), f'{name}.{key}'.lstrip('.'))
        ]
    return [] if written == now else [f'{name} was {written} and is {now}']
