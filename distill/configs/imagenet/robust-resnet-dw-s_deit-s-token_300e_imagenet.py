"""DeiT-S with a distillation token that learns Robust-ResNet-DW-S's decisions, DeiT's 300-epoch recipe.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs of 24 GB. Cost: not measured here; that of the student alone and the teacher's forward passes.
Target: none is published with this teacher; with a RegNetY-16GF as teacher top-1 81.2 % (DeiT README).
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_deit_300e.py'

model = dict(
    teacher=dict(checkpoint='work_dirs/robust-resnet-dw-s_300e_imagenet/student_best.pth'),
    student=dict(model='deit_small_distilled_patch16_224', drop_path_rate=0.1),
    losses=[dict(type='cross_entropy', weight=0.5), dict(type='hard_label', weight=0.5)],
)
