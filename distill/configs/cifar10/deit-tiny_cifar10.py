"""A smaller DeiT-style student, on CIFAR-10 as class folders.

python tools/train.py distill/configs/cifar10/deit-tiny_cifar10.py

Hardware: two CPU cores. Cost: some minutes. Target: none set; see docs/transfer.md.
"""

_base_ = '../shapes/deit-tiny_shapes.py'

data_root = 'data/cifar10'
train_dataloader = dict(dataset=dict(root=data_root))
val_dataloader = dict(dataset=dict(root=data_root))
test_dataloader = val_dataloader
