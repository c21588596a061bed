"""faster-coco-eval in place of pycocotools gives the same numbers."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmdet')
pytest.importorskip('faster_coco_eval')

import backbones.openmmlab  # noqa: F401 - before anything imports mmcv's operators

# isort: split
import pycocotools.mask
from mmdet.evaluation.metrics import coco_metric

from backbones.openmmlab.fast_coco import FastCocoMetric, fast_evaluator
from distill.synthetic.coco import write_coco


@pytest.fixture(scope='module')
def detections(tmp_path_factory) -> tuple[Path, list[tuple[dict, dict]]]:
    """Ground truth with crowds and two classes, and what a detector of 300 boxes an image would say."""
    root = tmp_path_factory.mktemp('coco')
    write_coco(root, size=64, train=8, val=1)
    path = root / 'annotations' / 'instances_train2017.json'
    truth = json.loads(path.read_text())
    rng = np.random.default_rng(0)
    for annotation in truth['annotations']:
        annotation['category_id'] = 1 + annotation['category_id'] % 2
    truth['annotations'][0].update(iscrowd=1, segmentation=rle(np.ones((64, 64), np.uint8)))
    crowded = path.with_name('crowded.json')
    crowded.write_text(json.dumps(truth))
    results = []
    for image in truth['images']:
        boxes = [a['bbox'] for a in truth['annotations'] if a['image_id'] == image['id']]
        boxes = np.array(boxes)[rng.integers(0, len(boxes), 300)] + rng.normal(0, 4, (300, 4))
        boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + np.maximum(boxes[:, 2:], 1)], axis=1).clip(0, 64)
        masks = np.zeros((300, 64, 64), np.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.round().astype(int), strict=True):
            mask[y0:y1, x0:x1] = 1
        found = dict(img_id=image['id'], bboxes=boxes, scores=rng.random(300), labels=rng.integers(0, 2, 300))
        results.append((dict(img_id=image['id'], width=64, height=64), {**found, 'masks': [rle(m) for m in masks]}))
    return crowded, results


def rle(mask: np.ndarray) -> dict:
    """COCO's encoding of a mask [H, W], as JSON has it."""
    encoded = pycocotools.mask.encode(np.asfortranarray(mask))
    return {'size': encoded['size'], 'counts': encoded['counts'].decode()}


def test_fast_coco_gives_pycocotools_twelve_numbers(detections):
    path, results = detections
    names = ['mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'AR@100', 'AR@300', 'AR@1000']
    names += ['AR_s@1000', 'AR_m@1000', 'AR_l@1000']
    reported, stats = [], []
    for metric_class, evaluator in ((coco_metric.CocoMetric, coco_metric.COCOeval), (FastCocoMetric, fast_evaluator())):
        metric = metric_class(ann_file=str(path), metric=['bbox', 'segm'], metric_items=names)
        metric.dataset_meta = {'classes': [c['name'] for c in json.loads(path.read_text())['categories']][:2]}
        reported.append(metric.compute_metrics(copy.deepcopy(results)))
        for kind in ('bbox', 'segm'):
            predictions = metric.results2json([found for _, found in copy.deepcopy(results)], str(path.with_name(kind)))
            found = metric._coco_api.loadRes(json.loads(Path(predictions[kind]).read_text()))
            evaluation = evaluator(metric._coco_api, found, kind)
            evaluation.params.maxDets = [100, 300, 1000]
            evaluation.params.catIds = metric.cat_ids
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            stats.append(np.array(evaluation.stats))
    assert reported[0] == reported[1]
    assert len(reported[0]) == 24
    np.testing.assert_allclose(stats[:2], stats[2:], rtol=0, atol=1e-6)
    assert all(len(found) == 12 and 0 < found[0] < 1 for found in stats)
    assert stats[0][6] < stats[0][8]  # Beyond the 100th detection there is something to find.
