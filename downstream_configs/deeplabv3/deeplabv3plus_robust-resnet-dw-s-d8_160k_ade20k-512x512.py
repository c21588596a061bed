"""DeepLabV3+ on Robust-ResNet-DW-S at output stride 8, ADE20K, 160 000 iterations.

torchrun --nproc_per_node=4 tools/train.py THIS_FILE --launcher pytorch --cfg-options model.backbone.checkpoint=PATH

Hardware: 4 GPUs, 4 images each. Cost: 59.5 M parameters; 160 000 iterations, time not measured.
Target: nobody has published DeepLabV3+ on Robust-ResNet-DW-S at output stride 8; ResNet-50 has 43.95 mIoU
single-scale (mmseg 1.2.2, configs/deeplabv3plus/metafile.yaml).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/deeplabv3plus.py',
    '../_base_/backbones/robust-resnet-dw-s.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_160k_adamw.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    # Patches at every 8th pixel and dilated kernels: a denser version of the same maps, with the same weights.
    backbone=dict(_base_.backbone, stem_stride=8, output_stride=8, strides=(8, 8, 8, 8)),
    decode_head=dict(c1_in_channels=_base_.channels[0], in_channels=_base_.channels[3]),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
