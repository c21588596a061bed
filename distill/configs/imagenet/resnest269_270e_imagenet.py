"""ResNeSt-269 without a teacher, its own 270-epoch recipe at 416 px.

torchrun --nnodes=8 --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 64 GPUs of 141 GB. Cost: not measured here; with train_dataloader.batch_size=32
optim_wrapper.accumulative_counts=4 on GPUs of 40 GB.
Target: top-1 84.54 % at 416 px (ResNeSt README).
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_resnest_270e.py'

model = dict(student=dict(model='resnest269', drop_block_rate=0.1, zero_init_last=True, drop_rate=0.2))
train_dataloader = dict(dataset=dict(transform=dict(input_size=416, scale=(0.1, 1.0), interpolation='bicubic')))
val_dataloader = dict(dataset=dict(transform=dict(input_size=416, interpolation='bicubic', crop_pct=416 / 448)))
test_dataloader = val_dataloader
