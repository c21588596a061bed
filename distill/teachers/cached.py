"""A teacher whose predictions come from a cache."""

import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, tensor

from backbones.class_names import known_classes
from distill.base.classes import match_classes
from distill.data.batch import ViewBatch
from distill.data.preprocessor import ViewPreprocessor
from distill.data.readers import class_names
from distill.data.sampler import ViewSampler
from distill.data.views import Views
from distill.teachers.cache.describe import describe_run, describe_teacher, find_teacher
from distill.teachers.cache.manifest import Layout, Manifest, require_equal
from distill.teachers.protocol import Prediction, Teacher


class CachedTeacher(Teacher):
    """A teacher that is not there: its predictions come from a cache.

    No network is built and no weight is loaded into one. If the teacher's checkpoint is named and exists, its
    weights must be those that the cache was written with.

    Args:
        cache: Folder of the cache.
        **model: The teacher as it would be configured without a cache; compared with the manifest.

    Attributes:
        manifest: What the cache was written with.
        epochs: Epochs after which the views start again.
        classes: Names of the teacher's classes in the order of its logits, if its checkpoint is at hand and tells.
        places: For each class of the run its place among the stored logits, or None for the same order.

    Raises:
        FileNotFoundError: There is no cache.
        ValueError: The cache is not complete, or is another teacher's.
    """

    live = False

    def __init__(self, cache: str | os.PathLike, **model):
        self.cache = Path(cache)
        self.manifest = Manifest.read(self.cache)
        if not isinstance(self.manifest.cache, Layout):
            raise ValueError(
                f"cache '{cache}' holds features, and this teacher is asked for predictions; write one of its logits"
            )
        self.store = self.manifest.cache.store(self.cache, self.manifest.rows)
        missing = self.store.missing()
        if missing:
            raise ValueError(
                f"cache '{cache}' lacks {len(missing)} of {self.store.shards} files; "
                'run the tools/cache_teacher.py that writes it again, it goes on where it stopped'
            )
        self.store.check_sizes()
        written = self.manifest.teacher
        require_equal(written, {**written, **describe_teacher(model)}, self.cache)
        self.source = {**written, 'cache': str(cache)}
        self.plan = self.manifest.plan
        self.epochs = self.plan.epochs(self.manifest.cache.views)
        self.num_classes: int = self.store.num_classes
        self.exact: bool = self.store.topk == self.store.num_classes
        found = find_teacher(model)
        self.classes = known_classes(found.record.classes if found is not None else None, {}, self.num_classes)
        self.places: Tensor | None = None

    def order_classes(self, dataset: Views) -> None:
        """Answer with the logits in the order of a data set's classes; they are stored in the order of its reader.

        Raises:
            ValueError: The teacher's classes are others, or its logits were stored before they were brought in order.
        """
        if not dataset.named:
            return
        stored, where = class_names(dataset.reader), f"the set '{dataset.where}'"
        if self.classes is not None:
            own = match_classes(stored, self.classes, where, 'the teacher of the cache')
            if own != list(range(len(own))) and self.manifest.teacher.get('classes') != stored:
                raise ValueError(
                    f"cache '{self.cache}' has the teacher's classes in another order than {where}, as earlier "
                    'versions wrote it; write it again by tools/cache_teacher.py'
                )
        places = match_classes(dataset.classes, stored, where, where)
        self.places = None if places == list(range(len(places))) else tensor(places)

    def check_run(self, dataset: Views, sampler: ViewSampler, preprocessor: ViewPreprocessor) -> None:
        """Compare a run's views with those of the cache, and let the sampler start again where the cache ends.

        Raises:
            ValueError: Something differs; the message says what.
        """
        require_equal(self.manifest.run, describe_run(dataset, sampler, preprocessor), self.cache)
        sampler.epochs = min(sampler.epochs or self.epochs, self.epochs)

    def __call__(self, views: ViewBatch, layers: Sequence[int] = ()) -> Prediction:
        """Look predictions up by the keys of the views; of the images, only the device matters.

        Raises:
            ValueError: Feature maps are wanted, the views have no keys, or the cache lacks one of them.
        """
        if layers or views.keys is None:
            what = f'layers {tuple(layers)}' if layers else 'images without their keys'
            raise ValueError(f"cache '{self.cache}' has no prediction for {what}; drop model.teacher.cache")
        rows = self.store.read(self.plan.rows(views.keys.cpu().numpy()))
        logits = self.store.unpack(rows, views.images.device)
        if self.places is not None:
            logits = logits.index_select(1, self.places.to(logits.device))
        return Prediction(logits)
