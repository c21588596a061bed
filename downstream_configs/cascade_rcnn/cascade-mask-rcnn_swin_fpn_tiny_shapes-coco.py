"""Cascade Mask R-CNN on a small Swin, the embedded COCO-like scenes.

python tools/make_data.py data/shapes --sets coco
python tools/train.py THIS_FILE

Hardware: 2 CPU cores. Cost: 3.0 M parameters, 0.8 s a step of 8 images.
Target: none set; the Robust-ResNet of this size aims at box and mask mAP ≥ 0.30.
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-mask-rcnn_tiny.py',
    '../_base_/backbones/tiny_swin.py',
    '../_base_/datasets/shapes_instance.py',
    '../_base_/schedules/det_tiny.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=_base_.backbone, neck=_base_.neck)
