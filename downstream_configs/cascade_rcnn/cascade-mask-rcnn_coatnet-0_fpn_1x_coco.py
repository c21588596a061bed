"""Cascade Mask R-CNN on CoAtNet-0, COCO, 1x.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs, 2 images each. Cost: 80.1 M parameters; 12 epochs, time not measured.
Target: nobody has published Cascade Mask R-CNN on CoAtNet-0 with these heads; ResNet-50 has 41.2 box and 35.9 mask
mAP with its own 1x recipe (mmdet 3.3.0, configs/cascade_rcnn/metafile.yml).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/cascade-mask-rcnn_fpn.py',
    '../_base_/backbones/coatnet-0.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x_adamw.py',
    '../_base_/runtime_det.py',
]
model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=_base_.backbone,
    neck=_base_.neck,
)
