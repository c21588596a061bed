"""Cascade R-CNN on a small Robust-ResNet, the embedded COCO-like scenes.

python tools/make_data.py data/shapes --sets coco
python tools/train.py THIS_FILE --cfg-options model.backbone.checkpoint=work_dirs/STUDENT/student_best.pth

Hardware: 2 CPU cores. Cost: 1.9 M parameters, 0.4 s a step of 8 images.
Target: box mAP ≥ 0.30 (this project's own).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-rcnn_tiny.py',
    '../_base_/backbones/tiny_robust-resnet-dw.py',
    '../_base_/datasets/shapes_detection.py',
    '../_base_/schedules/det_tiny_taught.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=dict(_base_.backbone, depths=(1, 1, 3, 1)), neck=_base_.neck)
model.update(train_cfg=dict(rpn_proposal=dict(nms_pre=150, max_per_img=100)))
