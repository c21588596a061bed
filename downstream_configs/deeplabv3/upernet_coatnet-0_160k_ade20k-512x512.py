"""UPerNet on CoAtNet-0, ADE20K, 160 000 iterations.

torchrun --nproc_per_node=4 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 4 GPUs, 4 images each. Cost: 59.1 M parameters; 160 000 iterations, time not measured.
Target: nobody has published UPerNet on CoAtNet-0; Swin-T has 44.41 mIoU single-scale (mmseg 1.2.2,
configs/swin/metafile.yaml).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/backbones/coatnet-0.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/schedule_160k_adamw.py',
    '../_base_/runtime_seg.py',
]
model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=_base_.backbone,
    decode_head=dict(in_channels=_base_.channels),
    auxiliary_head=dict(in_channels=_base_.channels[2]),
)
optim_wrapper = dict(optimizer=dict(lr=6e-5, weight_decay=0.01))
