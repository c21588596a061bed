"""Cascade R-CNN on ResNeSt-50 with deformable stages, COCO, 1x at six sizes: the recipe of the ResNeSt paper.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch

Hardware: 8 GPUs, 2 images each. Cost: 76.1 M parameters; 12 epochs, time not measured.
Target: nobody has published it; without deformable convolutions 45.41 box mAP (ResNeSt's README, detectron2).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-rcnn_fpn_4conv1fc.py',
    '../_base_/backbones/resnest50-mdconv.py',
    '../_base_/datasets/coco_detection_ms.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=dict(_base_.backbone, frozen_stages=1), neck=_base_.neck)
