"""DeepLabV3 on a small ResNeSt with deformable stages, the embedded ADE20K-like scenes.

python tools/make_data.py data/shapes --sets ade20k
python tools/train.py THIS_FILE

Hardware: 2 CPU cores. Cost: 0.9 M parameters, 0.2 s a step of 8 crops.
Target: none set; DeepLabV3 on the Robust-ResNet of this size aims at mIoU ≥ 0.50.
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/deeplabv3_tiny.py',
    '../_base_/backbones/tiny_resnest-mdconv.py',
    '../_base_/datasets/shapes_segmentation.py',
    '../_base_/schedules/seg_tiny.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    backbone=dict(_base_.backbone, output_stride=8, out_indices=(-4, -3, -2), strides=(4, 8, 8)),
    decode_head=dict(in_channels=_base_.channels[2]),
    auxiliary_head=dict(in_channels=_base_.channels[1]),
)
default_hooks = dict(checkpoint=dict(interval=200))
