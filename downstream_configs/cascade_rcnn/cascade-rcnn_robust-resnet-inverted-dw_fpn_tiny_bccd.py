"""Cascade R-CNN on a small Robust-ResNet-Inverted, BCCD blood cells (3 classes, 640 × 480) at half size.

python tools/train.py THIS_FILE --data-root PATH_OF_bccd_coco

Hardware: 2 CPU cores. Cost: 2.0 M parameters, 0.5 s a step of 2 images.
Target: none set; the Robust-ResNet of this size has box mAP@50 0.87 from scratch (docs/real_small.md).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-rcnn_tiny_bccd.py',
    '../_base_/backbones/tiny_robust-resnet-inverted-dw.py',
    '../_base_/datasets/bccd_detection.py',
    '../_base_/schedules/det_tiny.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=_base_.backbone, neck=_base_.neck)
