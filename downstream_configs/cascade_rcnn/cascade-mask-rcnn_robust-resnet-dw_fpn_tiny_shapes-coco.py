"""Cascade Mask R-CNN on a small Robust-ResNet, the embedded COCO-like scenes.

python tools/make_data.py data/shapes --sets coco
python tools/train.py THIS_FILE --cfg-options model.backbone.checkpoint=work_dirs/STUDENT/student_best.pth

Hardware: 2 CPU cores. Cost: 2.2 M parameters, 0.8 s a step of 8 images.
Target: box and mask mAP ≥ 0.30 (this project's own).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-mask-rcnn_tiny.py',
    '../_base_/backbones/tiny_robust-resnet-dw.py',
    '../_base_/datasets/shapes_instance.py',
    '../_base_/schedules/det_tiny.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=dict(_base_.backbone, depths=(1, 1, 3, 1)), neck=_base_.neck)
