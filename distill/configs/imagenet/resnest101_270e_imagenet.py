"""ResNeSt-101 without a teacher, its own 270-epoch recipe at 256 px.

torchrun --nnodes=8 --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 64 GPUs of 24 GB. Cost: not measured here.
Target: top-1 82.83 % at 256 px (ResNeSt README).
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_resnest_270e.py'

model = dict(student=dict(model='resnest101', drop_block_rate=0.1, zero_init_last=True))
train_dataloader = dict(dataset=dict(transform=dict(input_size=256)))
val_dataloader = dict(dataset=dict(transform=dict(input_size=256)))
test_dataloader = val_dataloader
