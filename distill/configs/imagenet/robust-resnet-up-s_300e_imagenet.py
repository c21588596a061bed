"""Robust-ResNet-Up-Inverted-DW-S without a teacher, DeiT's 300-epoch recipe.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs of 24 GB. Cost: about 50 hours on 8 A5000 by the authors (RobustCNN TRAIN.md), not measured here.
Target: top-1 79.2 % (RobustCNN README).
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_deit_300e.py'

model = dict(
    student=dict(model='robust_resnet_up_inverted_dw_small', drop_path_rate=0.1),
    losses=[dict(type='cross_entropy')],
)
