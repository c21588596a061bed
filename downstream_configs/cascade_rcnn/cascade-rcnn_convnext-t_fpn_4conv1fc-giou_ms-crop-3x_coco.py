"""Cascade R-CNN on ConvNeXt-T, COCO, 3x with large multi-scale crops.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs, 2 images each. Cost: 78.3 M parameters; 36 epochs, time not measured.
Target: nobody has published it without masks; with them 50.4 box mAP (ConvNeXt's repository,
object_detection/README.md).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-rcnn_fpn_4conv1fc-giou.py',
    '../_base_/backbones/convnext-t.py',
    '../_base_/datasets/coco_detection_ms-crop.py',
    '../_base_/schedules/schedule_3x_adamw.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=_base_.backbone, neck=_base_.neck)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4),
    # The recipe's 0.7 is over 7 steps from heads to stem; timm's layers are 19 steps.
    paramwise_cfg=dict(layer_decay=0.7 ** (7 / 19)),
)
