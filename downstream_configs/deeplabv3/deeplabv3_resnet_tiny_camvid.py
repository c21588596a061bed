"""DeepLabV3 on a small ResNet, CamVid street scenes (11 classes, 480 × 360) at half size.

python tools/train.py THIS_FILE --data-root PATH_OF_camvid_ade

Hardware: 2 CPU cores. Cost: 0.5 M parameters, 0.2 s a step of 4 crops.
Target: none set; DeepLabV3 on the Robust-ResNet of this size has mIoU 0.41 on a CIFAR-10 backbone
(docs/real_small.md).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/deeplabv3_tiny_camvid.py',
    '../_base_/backbones/tiny_resnet.py',
    '../_base_/datasets/camvid_segmentation.py',
    '../_base_/schedules/seg_tiny.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    backbone=dict(_base_.backbone, output_stride=8, out_indices=(-4, -3, -2), strides=(4, 8, 8)),
    decode_head=dict(in_channels=_base_.channels[2]),
    auxiliary_head=dict(in_channels=_base_.channels[1]),
)
default_hooks = dict(checkpoint=dict(interval=200))
