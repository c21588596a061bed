"""Cascade Mask R-CNN on ConvNeXt-T, COCO, 3x with large multi-scale crops.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs, 2 images each. Cost: 86.2 M parameters; 36 epochs, time not measured.
Target: 50.4 box / 43.7 mask mAP (ConvNeXt's repository, object_detection/README.md), 50.3 / 43.6 (mmdet 3.3.0,
configs/convnext/metafile.yml).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-mask-rcnn_fpn_4conv1fc-giou.py',
    '../_base_/backbones/convnext-t.py',
    '../_base_/datasets/coco_instance_ms-crop.py',
    '../_base_/schedules/schedule_3x_adamw.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=_base_.backbone, neck=_base_.neck)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4),
    # The recipe's 0.7 is over 7 steps from heads to stem; timm's layers are 19 steps.
    paramwise_cfg=dict(layer_decay=0.7 ** (7 / 19)),
)
