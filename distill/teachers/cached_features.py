"""A teacher whose features come from a cache."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from distill.data.batch import ViewBatch
from distill.data.preprocessor import ViewPreprocessor
from distill.data.sampler import ViewSampler
from distill.data.views import Views
from distill.teachers.cache.describe import describe_asked, describe_run
from distill.teachers.cache.feature_layout import FeatureLayout
from distill.teachers.cache.manifest import Manifest, require_equal
from distill.teachers.protocol import Features, FeatureTeacher


class CachedFeatures(FeatureTeacher):
    """A teacher that is not there: its features come from a cache.

    No network is built and no weight is loaded into one. If the teacher's checkpoint is named and exists, its
    weights must be those that the cache was written with. Pooled embeddings are those of the live teacher, in the
    precision of the cache; grids are decoded with the error that the manifest states.

    Args:
        name: Its name among the teachers of a run.
        cache: Folder of the cache.
        **teacher: The teacher as it would be configured without a cache, see `distill.teachers.features.LiveFeatures`;
            compared with the manifest.

    Attributes:
        manifest: What the cache was written with.
        epochs: Epochs after which the views start again.

    Raises:
        FileNotFoundError: There is no cache.
        ValueError: The cache is not complete, or is another teacher's, or holds predictions alone.
    """

    live = False

    def __init__(self, name: str, cache: str | os.PathLike, **teacher):
        self.name, self.cache = name, Path(cache)
        self.manifest = Manifest.read(self.cache)
        layout = self.manifest.cache
        if not isinstance(layout, FeatureLayout):
            raise ValueError(
                f"cache '{cache}' holds predictions, and teacher '{name}' is asked for features; write another for it"
            )
        self.layout: FeatureLayout = layout
        self.store = layout.open_store(self.cache, self.manifest.rows)
        missing = self.store.missing()
        if missing or not layout.complete:
            what = f'{len(missing)} of {self.store.shards} files' if missing else 'the error of its grids'
            raise ValueError(
                f"cache '{cache}' lacks {what}; "
                'run the tools/cache_teacher.py that writes it again, it goes on where it stopped'
            )
        self.store.check_sizes()
        written: Any = self.manifest.teacher
        now = describe_asked({key: value for key, value in teacher.items() if key != 'compile'})
        if not {'model', 'checkpoint'} & teacher.keys():
            # The cache alone is named: what is not said is not meant to be another.
            now['asked'] = {
                key: now['asked'][key] if key in teacher else value for key, value in written['asked'].items()
            }
        require_equal(written, {**written, **now}, self.cache)
        self.source = {'name': name, **written, 'cache': str(cache)}
        self.plan = self.manifest.plan
        self.epochs = self.plan.epochs(layout.views)
        self.pooled_chs: int | None = None if layout.pooled is None else layout.pooled.chs
        self.grid_chs: int | None = None if layout.grid is None else layout.grid.chs
        self.num_classes: int = 0 if layout.logits is None else layout.logits.num_classes

    def describe(self) -> dict:
        """What fixes the features of a view, as the manifest has it."""
        return {key: value for key, value in self.manifest.teacher.items() if key != 'asked'}

    def check_run(self, dataset: Views, sampler: ViewSampler, preprocessor: ViewPreprocessor) -> None:
        """Compare a run's views with those of the cache, and let the sampler start again where the cache ends.

        Raises:
            ValueError: Something differs; the message says what.
        """
        require_equal(self.manifest.run, describe_run(dataset, sampler, preprocessor), self.cache)
        sampler.epochs = min(sampler.epochs or self.epochs, self.epochs)

    def __call__(self, views: ViewBatch, wanted: Collection[str] = ('pooled', 'grid')) -> Features:
        """Look features up by the keys of the views; of the images, only the device matters.

        Raises:
            ValueError: Something is wanted that is not stored, the views have no keys, or the cache lacks one of them.
        """
        held = [kind for kind in ('pooled', 'grid', 'logits') if getattr(self.layout, kind) is not None]
        if lost := [kind for kind in wanted if kind not in held]:
            raise ValueError(
                f"cache '{self.cache}' of teacher '{self.name}' holds {', '.join(held)} and no {lost[0]}; write another"
                ' with the losses that need it, or drop these'
            )
        if views.keys is None:
            raise ValueError(f"cache '{self.cache}' has no features for images without their keys; drop its use here")
        rows = self.store.read(self.plan.rows(views.keys.cpu().numpy()))
        return self.store.unpack(rows, views.images.device, wanted)
