"""Cascade Mask R-CNN on Robust-ResNet-Inverted-DW-S, COCO, 3x with large multi-scale crops.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --cfg-options model.backbone.checkpoint=PATH

Hardware: 8 GPUs, 2 images each. Cost: 92.0 M parameters; 36 epochs, time not measured.
Target: nobody has published Cascade Mask R-CNN on Robust-ResNet-Inverted-DW-S with this recipe; ResNet-50 has 46.3
box and 40.1 mask mAP with it (Swin Transformer, ICCV 2021, table 2b).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-mask-rcnn_fpn_4conv1fc-giou.py',
    '../_base_/backbones/robust-resnet-inverted-dw-s.py',
    '../_base_/datasets/coco_instance_ms-crop.py',
    '../_base_/schedules/schedule_3x_adamw.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=_base_.backbone, neck=_base_.neck)
