"""Cascade Mask R-CNN on ResNeSt-101, COCO, 1x at six sizes: the recipe of the ResNeSt paper.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch

Hardware: 8 GPUs, 2 images each. Cost: 104.0 M parameters; 12 epochs, time not measured.
Target: 48.30 box / 41.56 mask mAP (ResNeSt's README, detectron2), 47.7 / 41.4 (mmdet 3.3.0,
configs/resnest/metafile.yml).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-mask-rcnn_fpn_4conv1fc.py',
    '../_base_/backbones/resnest101.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=dict(_base_.backbone, frozen_stages=1), neck=_base_.neck)
