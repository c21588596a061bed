"""DeepLabV3 on ResNeSt-101 at output stride 8, ADE20K, 160 000 iterations.

torchrun --nproc_per_node=4 tools/train.py THIS_FILE --launcher pytorch

Hardware: 4 GPUs, 4 images each. Cost: 90.9 M parameters; 160 000 iterations, time not measured.
Target: 45.71 mIoU single-scale, 46.59 multi-scale with flipping (mmseg 1.2.2, configs/resnest/metafile.yaml); 46.91
(ResNeSt's README, GluonCV).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/deeplabv3.py',
    '../_base_/backbones/resnest101.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    backbone=dict(_base_.backbone, output_stride=8, strides=(4, 8, 8, 8)),
    decode_head=dict(in_channels=_base_.channels[3]),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
