"""UPerNet on DeiT-S, ADE20K, 160 000 iterations.

torchrun --nproc_per_node=4 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 4 GPUs, 4 images each. Cost: 54.1 M parameters; 160 000 iterations, time not measured.
Target: 43.82 mIoU single-scale, 45.07 multi-scale with flipping (mmseg 1.2.2, configs/vit/metafile.yaml, with another
pyramid from the same four maps).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/backbones/deit-s.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_160k_adamw.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    backbone=dict(_base_.backbone, out_indices=(2, 5, 8, 11), strides=(16, 16, 16, 16)),
    neck=dict(type='StagePyramid', in_channels=[384] * 4, in_strides=[16] * 4, out_channels=384),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(optimizer=dict(lr=6e-5, weight_decay=0.01))
