"""UPerNet on a small Swin, CamVid street scenes (11 classes, 480 × 360) at half size.

python tools/train.py THIS_FILE --data-root PATH_OF_camvid_ade

Hardware: 2 CPU cores. Cost: 1.9 M parameters, 0.3 s a step of 4 crops.
Target: none set; DeepLabV3 on the Robust-ResNet of this size has mIoU 0.41 on a CIFAR-10 backbone
(docs/real_small.md).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/upernet_tiny_camvid.py',
    '../_base_/backbones/tiny_swin.py',
    '../_base_/datasets/camvid_segmentation.py',
    '../_base_/schedules/seg_tiny.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    backbone=_base_.backbone,
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
default_hooks = dict(checkpoint=dict(interval=200))
