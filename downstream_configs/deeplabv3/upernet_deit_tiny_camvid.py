"""UPerNet on a small DeiT, CamVid street scenes (11 classes, 480 × 360) at half size.

python tools/train.py THIS_FILE --data-root PATH_OF_camvid_ade

Hardware: 2 CPU cores. Cost: 1.1 M parameters, 0.4 s a step of 4 crops.
Target: none set; DeepLabV3 on the Robust-ResNet of this size has mIoU 0.41 on a CIFAR-10 backbone
(docs/real_small.md).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/upernet_tiny_camvid.py',
    '../_base_/backbones/tiny_deit.py',
    '../_base_/datasets/camvid_segmentation.py',
    '../_base_/schedules/seg_tiny.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    backbone=dict(_base_.backbone, out_indices=(0, 1, 2, 3), strides=(8, 8, 8, 8)),
    neck=dict(type='StagePyramid', in_channels=[96] * 4, in_strides=[8] * 4, out_channels=64),
    decode_head=dict(in_channels=[64] * 4),
    auxiliary_head=dict(in_channels=64),
)
default_hooks = dict(checkpoint=dict(interval=200))
