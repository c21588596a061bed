"""ResNeSt-200 without a teacher, its own 270-epoch recipe at 320 px.

torchrun --nnodes=8 --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 64 GPUs of 80 GB. Cost: not measured here; with train_dataloader.batch_size=64
optim_wrapper.accumulative_counts=2 on GPUs of 40 GB.
Target: top-1 83.84 % at 320 px (ResNeSt README).
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/imagenet_resnest_270e.py'

model = dict(student=dict(model='resnest200', drop_block_rate=0.1, zero_init_last=True, drop_rate=0.2))
train_dataloader = dict(dataset=dict(transform=dict(input_size=320, scale=(0.1, 1.0), interpolation='bicubic')))
val_dataloader = dict(dataset=dict(transform=dict(input_size=320, interpolation='bicubic', crop_pct=320 / 352)))
test_dataloader = val_dataloader
