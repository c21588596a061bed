"""Robust-ResNet-Inverted-DW-S that learns from DeiT-S, DeiT's 300-epoch recipe with soft targets.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs of 24 GB. Cost: not measured here; that of the student alone and the teacher's forward passes.
Target: above both models alone, as Wang et al., ICLR 2023, found for a Robust-ResNet.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_deit_300e.py'

model = dict(
    teacher=dict(model='deit_small_patch16_224', pretrained=True),
    student=dict(model='robust_resnet_inverted_dw_small', drop_path_rate=0.1),
    losses=[dict(type='cross_entropy', weight=0.5), dict(type='soft_target_kl', weight=0.5, temperature=1.0)],
)
