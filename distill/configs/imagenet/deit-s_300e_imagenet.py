"""DeiT-S without a teacher, DeiT's 300-epoch recipe.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs of 16 GB. Cost: two to three days by the recipe's authors, not measured here.
Target: top-1 79.8 % (Touvron et al., ICML 2021, table 7).
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_deit_300e.py'

model = dict(
    student=dict(model='deit_small_patch16_224', drop_path_rate=0.1),
    losses=[dict(type='cross_entropy')],
)
