"""A small ResNet (pre-activation, WRN-10-1), on CIFAR-10 as class folders.

python tools/train.py distill/configs/cifar10/resnet-tiny_cifar10.py

Hardware: two CPU cores. Cost: not measured. Target: none set.
"""

_base_ = '../shapes/resnet-tiny_shapes.py'

data_root = 'data/cifar10'
train_dataloader = dict(dataset=dict(root=data_root))
val_dataloader = dict(dataset=dict(root=data_root))
test_dataloader = val_dataloader
