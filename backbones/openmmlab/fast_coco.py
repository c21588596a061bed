"""COCO's scores from faster-coco-eval, which is written in C++; numbers to report come from pycocotools."""

from typing import Any
from unittest.mock import patch

import numpy as np
from mmdet.evaluation.metrics import CocoMetric, coco_metric
from mmengine.registry import METRICS

try:
    from faster_coco_eval import COCOeval_faster
except ImportError:
    COCOeval_faster = None

__all__ = ['FastCocoMetric', 'by_name']

AP_DETECTIONS = 100
"""Detections per image that count for pycocotools' first number, AP, at any setting of the limits."""


@METRICS.register_module()
class FastCocoMetric(CocoMetric):
    """mmdet's `CocoMetric`, evaluated by faster-coco-eval: the same twelve numbers in less time.

    In a config: ``val_evaluator=dict(type='FastCocoMetric', …)``, with the arguments of `CocoMetric`.

    Raises:
        ValueError: faster-coco-eval is not installed, or images are numbered by text, which it does not take.
    """

    def __init__(self, *args, **kwargs):
        if COCOeval_faster is None:
            raise ValueError("FastCocoMetric needs faster-coco-eval; install '.[fast-coco]' or set type=CocoMetric")
        super().__init__(*args, **kwargs)
        named = [image for image in getattr(self._coco_api, 'imgs', ()) if isinstance(image, str)]
        if named:
            raise ValueError(f"FastCocoMetric needs image ids that are numbers, not '{named[0]}'; set type=CocoMetric")

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The scores of all predictions, as `CocoMetric` returns them."""
        # In the middle of this method mmdet's metric looks its evaluator up, by a name in its module.
        with patch.object(coco_metric, 'COCOeval', fast_evaluator()):
            return super().compute_metrics(results)


def by_name(evaluator: Any) -> type:
    """An evaluator of pycocotools that keeps the order of the categories.

    pycocotools sorts their ids, and mmdet then reads the scores of single classes in the order in which it gave them.

    Args:
        evaluator: The class of the evaluator. One that keeps the order already is returned as it is.
    """
    if getattr(evaluator, 'keeps_order', False):
        return evaluator

    class ByName(evaluator):
        keeps_order = True
        asked: list
        eval: dict

        def evaluate(self) -> None:
            self.asked = list(self.params.catIds)
            super().evaluate()

        def accumulate(self, *args) -> None:
            super().accumulate(*args)
            found = list(self.params.catIds)
            if self.params.useCats and self.asked != found and sorted(self.asked) == sorted(found):
                order = [found.index(category) for category in self.asked]
                for key, axis in (('precision', 2), ('scores', 2), ('recall', 1)):
                    if key in self.eval:
                        self.eval[key] = self.eval[key].take(order, axis)

    return ByName


def fast_evaluator() -> type:
    """faster-coco-eval's evaluator with pycocotools' first number.

    mmdet evaluates up to 1000 detections per image. pycocotools then still takes 100 for the first number, AP, and
    faster-coco-eval takes 1000.
    """

    class Evaluator(by_name(COCOeval_faster)):  # type: ignore[misc]
        stats: np.ndarray

        def summarize(self) -> None:
            super().summarize()
            if self.params.iouType in ('bbox', 'segm'):
                limits = self.params.maxDets
                # pycocotools' mean over nothing is -1.
                ap = self._summarize(1, maxDets=AP_DETECTIONS) if AP_DETECTIONS in limits else -1
                self.stats = np.array([ap, *self.stats[1:]])

    return Evaluator
