"""ResNet-50 without a teacher, DeiT's 300-epoch recipe.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs of 16 GB. Cost: not measured here.
Target: none is published for the whole of this recipe.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_deit_300e.py'

model = dict(
    student=dict(model='resnet50', drop_path_rate=0.1),
    losses=[dict(type='cross_entropy')],
)
