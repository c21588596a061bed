"""DeepLabV3+ on ResNet-50 at output stride 8, ADE20K, 160 000 iterations: the baseline.

torchrun --nproc_per_node=4 tools/train.py THIS_FILE --launcher pytorch

Hardware: 4 GPUs, 4 images each. Cost: 43.7 M parameters; 160 000 iterations, time not measured.
Target: 43.95 mIoU single-scale, 44.93 multi-scale with flipping (mmseg 1.2.2, configs/deeplabv3plus/metafile.yaml;
there the stem is three 3 × 3 convolutions, here it is torchvision's 7 × 7).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/deeplabv3plus.py',
    '../_base_/backbones/resnet50.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_160k.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    backbone=dict(_base_.backbone, sync_bn=True, output_stride=8, strides=(4, 8, 8, 8)),
    decode_head=dict(c1_in_channels=_base_.channels[0], in_channels=_base_.channels[3]),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
