"""UPerNet on a small Swin, the embedded ADE20K-like scenes.

python tools/make_data.py data/shapes --sets ade20k
python tools/train.py THIS_FILE

Hardware: 2 CPU cores. Cost: 1.9 M parameters, 0.2 s a step of 8 crops.
Target: none set; DeepLabV3 on the Robust-ResNet of this size aims at mIoU ≥ 0.50.
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/upernet_tiny.py',
    '../_base_/backbones/tiny_swin.py',
    '../_base_/datasets/shapes_segmentation.py',
    '../_base_/schedules/seg_tiny.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    backbone=_base_.backbone,
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
default_hooks = dict(checkpoint=dict(interval=200))
