"""A DeiT-style teacher, on CIFAR-10 as class folders.

python tools/train.py distill/configs/cifar10/deit-mini_cifar10.py

Hardware: two CPU cores. Cost: some minutes. Target: clearly above chance; see docs/real_small.md.
"""

_base_ = '../shapes/deit-mini_shapes.py'

data_root = 'data/cifar10'
train_dataloader = dict(dataset=dict(root=data_root))
val_dataloader = dict(dataset=dict(root=data_root))
test_dataloader = val_dataloader
model = dict(student=dict(depth=6))
