"""ResNeSt-50 without a teacher, its own 270-epoch recipe.

torchrun --nnodes=8 --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 64 GPUs of 16 GB. Cost: not measured here.
Target: top-1 81.03 % at 224 px (ResNeSt README).
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_resnest_270e.py'

model = dict(student=dict(model='resnest50', drop_block_rate=0.1, zero_init_last=True))
