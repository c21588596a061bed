"""The test of a detector's or segmenter's config, fed with what a file or a model finds: box mAP, mask mAP or mIoU."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, DefaultScope

from distill.base.packaged import find
from distill.downstream.artefact import predict
from distill.downstream.checks.model import check_order
from distill.downstream.complete import complete
from distill.downstream.scores import main_scores, task_scores
from distill.engines.quiet import caught_output
from distill.engines.scenes import Objects
from distill.training.experiment import Experiment, check_sections, load_config
from distill.training.runner import named_data

Show = Callable[[int, np.ndarray, tuple[int, int]], Objects | np.ndarray]
"""Says what is found in an image of the test set: by its place, its resized pixels R, G, B, and its own size."""


def read_test(config: str | os.PathLike, data_root: str | os.PathLike | None) -> Config:
    """The settings of a config.

    Args:
        config: A detector's or segmenter's config, as a path or a name.
        data_root: Folder of the data in place of the config's.

    Raises:
        FileNotFoundError: The config or the data do not exist.
    """
    root = None if data_root is None else os.fspath(data_root)
    return load_config(Experiment(find(os.fspath(config)), root))[0]


class SceneMetrics:
    """A config's test set with its annotations, and its metrics.

    Args:
        settings: See `read_test`; they are changed.
        classes: Names of the classes of what is tested, in the order of its labels.
        what: What the error calls it.

    Raises:
        FileNotFoundError: An annotation file or an image folder does not exist.
        ValueError: The config has no test, or one of other classes.
    """

    def __init__(self, settings: Config, classes: Sequence[str], what: str):
        check_sections(settings, 'a test', 'test_dataloader.dataset', 'test_evaluator')
        complete(settings)
        self.settings = settings
        with self._scope(), caught_output():
            with named_data(settings.test_dataloader.dataset):
                self.dataset = DATASETS.build(settings.test_dataloader.dataset)
            self.evaluator = Evaluator(settings.test_evaluator)
        check_order(list(classes), what, list(self.dataset.metainfo['classes']), 'metainfo.classes')
        self.evaluator.dataset_meta = self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def _scope(self) -> AbstractContextManager:
        return DefaultScope.overwrite_default_scope(self.settings.default_scope)

    def places_of(self, files: Sequence[Path]) -> list[int | None]:
        """The place of each file in the test set; None for one that it does not have."""
        known = {Path(self.dataset.get_data_info(k)['img_path']).resolve(): k for k in range(len(self))}
        return [known.get(file.resolve()) for file in files]

    def scores(self, show: Show, places: Sequence[int] | None = None) -> dict[str, float]:
        """What is found, against the annotations.

        Args:
            show: Says what is found.
            places: The images to test; None for all.

        Returns:
            Box mAP and mask mAP, or mIoU, as fractions, by name.

        Raises:
            ValueError: No object and no pixel of the images counts.
        """
        chosen = range(len(self)) if places is None else places
        for metric in self.evaluator.metrics:
            if hasattr(metric, 'img_ids'):  # COCO's would miss the objects of the others.
                metric.img_ids = [self.dataset.get_data_info(place)['img_id'] for place in chosen]
        with self._scope(), caught_output():  # The metrics print their tables.
            for place in chosen:
                data = pseudo_collate([self.dataset[place]])
                found = predict(data, lambda image, size, place=place: show(place, image, size))
                self.evaluator.process(data_samples=found, data_batch=data)
            scores = self.evaluator.evaluate(len(chosen))
        found = task_scores(scores, self.settings)
        return {name: found[name] for name in main_scores(self.settings)}
