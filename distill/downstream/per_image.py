"""Keep what a detector or segmenter did on each image while OpenMMLab's metrics are computed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from distill.results.per_image import Detections, PerImage, Regions, write_per_image

CLASS_NAME = {'CocoMetric', 'FastCocoMetric', 'IoUMetric'}
"""The metrics whose results are known image by image."""


class KeepPerImage:
    """Writes a file for each test of a runner; `path` says which.

    Args:
        runner: A runner that is built and has not been tested.

    Raises:
        ValueError: None of the runner's metrics is a `CocoMetric` of boxes or an `IoUMetric`.
    """

    def __init__(self, runner: Runner):
        self.path: Path | None = None
        self._dataset: Any = runner.test_loop.dataloader.dataset
        metrics = [one for one in runner.test_loop.evaluator.metrics if type(one).__name__ in CLASS_NAME]
        if not metrics:
            found = ', '.join(type(one).__name__ for one in runner.test_loop.evaluator.metrics)
            raise ValueError(f'scores by image need one of {", ".join(sorted(CLASS_NAME))}; the test has {found}')
        self._tap(metrics[0])

    def _tap(self, metric: BaseMetric) -> None:
        """Have a metric hand over what it collected from all processes, before it sums it up."""
        compute: Callable[[list], dict] = metric.compute_metrics
        record = self._regions if type(metric).__name__ == 'IoUMetric' else self._detections

        def compute_metrics(results: list) -> dict:
            scores = compute(results)
            if self.path is not None:
                write_per_image(self.path, record(metric, results))
            return scores

        metric.compute_metrics = compute_metrics

    def _regions(self, metric: Any, results: Sequence[tuple]) -> PerImage:
        names = [Path(self._dataset.get_data_info(index)['img_path']).name for index in range(len(results))]
        intersection, union = (np.stack([np.asarray(one[place]) for one in results]) for place in (0, 1))
        return Regions(np.array(names), intersection, union)

    def _detections(self, metric: Any, results: Sequence[tuple[dict, dict]]) -> PerImage:
        return match_boxes(metric._coco_api, metric.cat_ids, [prediction for _, prediction in results])


def match_boxes(truth: COCO, categories: Sequence[int], predictions: Sequence[dict]) -> Detections:
    """Match the boxes of each image with its objects, as COCO's evaluation does.

    Args:
        truth: The annotations.
        categories: Category of each label.
        predictions: Of each image ``img_id``, ``bboxes`` [n, 4] as left, top, right and bottom, ``scores`` [n] and
            ``labels`` [n].
    """
    rows = []
    for one in predictions:
        corners = np.asarray(one['bboxes'], dtype=np.float64).reshape(-1, 4)
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        for box, score, label in zip(boxes.tolist(), one['scores'], one['labels'], strict=True):
            found = dict(image_id=one['img_id'], category_id=categories[int(label)], bbox=box, score=float(score))
            rows.append(found)
    images = sorted(one['img_id'] for one in predictions)
    evaluation = COCOeval(truth, truth.loadRes(rows) if rows else COCO(), 'bbox')
    parameters = evaluation.params
    parameters.imgIds, parameters.catIds = images, list(categories)
    parameters.areaRng, parameters.areaRngLbl = [parameters.areaRng[0]], [parameters.areaRngLbl[0]]
    parameters.maxDets = [parameters.maxDets[-1]]
    evaluation.evaluate()
    return _matched(evaluation, images, len(parameters.iouThrs))


def _matched(evaluation: COCOeval, images: Sequence[int], overlaps: int) -> Detections:
    """What a finished evaluation knows of each detection; its records are ordered by category, then by image."""
    objects = np.zeros((len(images), len(evaluation.evalImgs) // len(images)), dtype=np.int64)
    parts: list[tuple[np.ndarray, ...]] = []
    for place, record in enumerate(evaluation.evalImgs):
        category, image = divmod(place, len(images))
        if record is None:
            continue
        objects[image, category] = np.count_nonzero(np.asarray(record['gtIgnore']) == 0)
        count = len(record['dtScores'])
        indices = np.full(count, image), np.full(count, category)
        right, ignored = record['dtMatches'].T > 0, record['dtIgnore'].T.astype(bool)
        parts.append((*indices, np.asarray(record['dtScores']), right, ignored))
    empty = (
        np.zeros(0, int),
        np.zeros(0, int),
        np.zeros(0),
        np.zeros((0, overlaps), bool),
        np.zeros((0, overlaps), bool),
    )
    image, category, score, right, ignored = (
        np.concatenate([empty[place], *(part[place].reshape(-1, *empty[place].shape[1:]) for part in parts)])
        for place in range(len(empty))
    )
    names = np.array([str(name) for name in images])
    return Detections(names, image.astype(int), category.astype(int), score, right, ignored, objects)
