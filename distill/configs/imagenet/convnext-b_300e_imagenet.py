"""ConvNeXt-B without a teacher, its own 300-epoch recipe.

torchrun --nnodes=4 --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 32 GPUs of 32 GB. Cost: not measured here.
Target: top-1 83.8 % (ConvNeXt README).
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_convnext_300e.py'

model = dict(
    student=dict(model='convnext_base', drop_path_rate=0.5),
    losses=[dict(type='cross_entropy')],
)
