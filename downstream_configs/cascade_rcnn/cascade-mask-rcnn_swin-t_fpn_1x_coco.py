"""Cascade Mask R-CNN on Swin-T, COCO, 1x.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs, 2 images each. Cost: 81.0 M parameters; 12 epochs, time not measured.
Target: nobody has published it with these heads; with those of the 3x config and its crops 48.1 box / 41.7 mask mAP
(Swin-Transformer-Object-Detection's README).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-mask-rcnn_fpn.py',
    '../_base_/backbones/swin-t.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x_adamw.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=_base_.backbone, neck=_base_.neck)
