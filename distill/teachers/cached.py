"""A teacher whose predictions come from a cache."""

import os
from pathlib import Path

from torch import Tensor

from distill.data.preprocessor import ViewPreprocessor
from distill.data.sampler import ViewSampler
from distill.data.views import Views
from distill.teachers.cache.manifest import (
    describe_run,
    describe_teacher,
    plan_of,
    read_manifest,
    require_equal,
    store_of,
)


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
