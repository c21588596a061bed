"""DeiT-B without a teacher, DeiT's 300-epoch recipe.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs of 32 GB. Cost: not measured here.
Target: top-1 81.8 % (DeiT README).
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_deit_300e.py'

model = dict(
    student=dict(model='deit_base_patch16_224', drop_path_rate=0.1),
    losses=[dict(type='cross_entropy')],
)
