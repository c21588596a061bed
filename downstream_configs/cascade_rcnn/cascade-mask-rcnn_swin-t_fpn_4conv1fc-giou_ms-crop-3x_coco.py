"""Cascade Mask R-CNN on Swin-T, COCO, 3x with large multi-scale crops.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs, 2 images each. Cost: 85.9 M parameters; 36 epochs, time not measured.
Target: 50.5 box / 43.7 mask mAP (Swin Transformer, ICCV 2021, table 2b; 50.4 / 43.7 in its repository).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-mask-rcnn_fpn_4conv1fc-giou.py',
    '../_base_/backbones/swin-t.py',
    '../_base_/datasets/coco_instance_ms-crop.py',
    '../_base_/schedules/schedule_3x_adamw.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=_base_.backbone, neck=_base_.neck)
