"""Cascade R-CNN on ResNet-50, COCO, 1x: the baseline.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch

Hardware: 8 GPUs, 2 images each. Cost: 69.4 M parameters; 12 epochs, time not measured.
Target: 40.3 box mAP (mmdet 3.3.0, configs/cascade_rcnn/metafile.yml, the same recipe).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-rcnn_fpn.py',
    '../_base_/backbones/resnet50.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=dict(_base_.backbone, frozen_stages=1, norm_eval=True), neck=_base_.neck)
