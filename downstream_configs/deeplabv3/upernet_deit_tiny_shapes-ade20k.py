"""UPerNet on a small DeiT, the embedded ADE20K-like scenes.

python tools/make_data.py data/shapes --sets ade20k
python tools/train.py THIS_FILE

Hardware: 2 CPU cores. Cost: 1.1 M parameters, 0.2 s a step of 8 crops.
Target: none set; DeepLabV3 on the Robust-ResNet of this size aims at mIoU ≥ 0.50.
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/upernet_tiny.py',
    '../_base_/backbones/tiny_deit.py',
    '../_base_/datasets/shapes_segmentation.py',
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
