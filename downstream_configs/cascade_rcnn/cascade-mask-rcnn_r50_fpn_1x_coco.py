"""Cascade Mask R-CNN on ResNet-50, COCO, 1x: the baseline.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch

Hardware: 8 GPUs with 12 GB, 2 images each. Cost: about 10 hours on V100s.
Target: 41.2 box / 35.9 mask mAP (mmdet 3.3.0, configs/cascade_rcnn/metafile.yml, the same recipe).
"""

_base_ = [
    '../_base_/models/cascade-mask-rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x.py',
    '../_base_/runtime_det.py',
]
model = dict(
    backbone=dict(
        type='TimmBackbone',
        model='resnet50.tv_in1k',
        pretrained=True,
        frozen_stages=1,
        norm_eval=True,
        strides=(4, 8, 16, 32),
    ),
    neck=dict(type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5),
)
