"""Cascade R-CNN on Swin-T, COCO, 1x.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs, 2 images each. Cost: 73.1 M parameters; 12 epochs, time not measured.
Target: nobody has published Cascade R-CNN on Swin-T with these heads; ResNet-50 has 40.3 box mAP with its own 1x
recipe (mmdet 3.3.0, configs/cascade_rcnn/metafile.yml).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-rcnn_fpn.py',
    '../_base_/backbones/swin-t.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x_adamw.py',
    '../_base_/runtime_det.py',
]
model = dict(backbone=_base_.backbone, neck=_base_.neck)
