"""Robust-ResNet-DW-S that matches DeiT-S, "a good teacher is patient and consistent".

torchrun --nnodes=4 --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 32 GPUs of 24 GB. Cost: not measured here; four times that of 300 epochs.
Target: none is published for this pair.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_function_matching_1200e.py'

model = dict(
    teacher=dict(model='deit_small_patch16_224', pretrained=True),
    student=dict(model='robust_resnet_dw_small'),
)
# The rate and decay that this student is trained with otherwise, for this batch: 5e-4 × 4096 / 512.
optim_wrapper = dict(optimizer=dict(lr=4e-3, weight_decay=0.05))
