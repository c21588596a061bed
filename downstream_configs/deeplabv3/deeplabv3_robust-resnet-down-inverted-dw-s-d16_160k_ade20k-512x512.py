"""DeepLabV3 on Robust-ResNet-Down-Inverted-DW-S at output stride 16, ADE20K, 160 000 iterations.

torchrun --nproc_per_node=4 tools/train.py THIS_FILE --launcher pytorch --cfg-options model.backbone.checkpoint=PATH

Hardware: 4 GPUs, 4 images each. Cost: 57.8 M parameters; 160 000 iterations, time not measured.
Target: nobody has published DeepLabV3 on Robust-ResNet-Down-Inverted-DW-S at output stride 16; at 8 ResNet-50 has
42.66 mIoU single-scale (mmseg 1.2.2, configs/deeplabv3/metafile.yaml).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/deeplabv3_d16.py',
    '../_base_/backbones/robust-resnet-down-inverted-dw-s.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_160k_adamw.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    backbone=dict(_base_.backbone, output_stride=16, strides=(16, 16, 16, 16)),
    decode_head=dict(in_channels=_base_.channels[3]),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
