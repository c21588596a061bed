"""Detections that are known image by image give pycocotools' own mAP."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from distill.downstream.per_image import match_boxes


def test_mean_average_precision_is_that_of_pycocotools():
    draw = np.random.default_rng(0)
    annotations, predictions = [], []
    for image in range(1, 13):
        boxes = np.concatenate([draw.uniform(0, 60, (5, 2)), draw.uniform(8, 40, (5, 2))], axis=1)
        labels = draw.integers(0, 3, 5)
        for box, label, crowd in zip(boxes, labels, draw.random(5) < 0.2, strict=True):
            area, number = float(box[2] * box[3]), len(annotations) + 1
            one = dict(id=number, image_id=image, category_id=int(label) * 10 + 1, bbox=box.tolist(), area=area)
            annotations.append(one | dict(iscrowd=int(crowd)))
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1) + draw.normal(0, 2, (5, 4))
        found = dict(img_id=image, bboxes=corners, scores=draw.random(5), labels=labels)
        predictions.append(found if image != 7 else dict(img_id=7, bboxes=np.zeros((0, 4)), scores=[], labels=[]))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = dict(
            images=[dict(id=image, width=100, height=100) for image in range(1, 13)],
            annotations=annotations,
            categories=[dict(id=number) for number in (1, 11, 21)],
        )
        truth.createIndex()
        record = match_boxes(truth, [1, 11, 21], predictions)
        rows = [
            dict(
                image_id=one['img_id'],
                category_id=int(label) * 10 + 1,
                bbox=[*box[:2], *(box[2:] - box[:2])],
                score=score,
            )
            for one in predictions
            for box, score, label in zip(one['bboxes'], one['scores'], one['labels'], strict=True)
        ]
        evaluation = COCOeval(truth, truth.loadRes(rows), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert 0.2 < evaluation.stats[0] < 0.95
    assert record.value(np.ones((1, 12), int))[0] == pytest.approx(evaluation.stats[0], abs=1e-9)
