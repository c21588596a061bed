"""A small ResNet (pre-activation, WRN-10-1) without a teacher, on CIFAR-10 as class folders.

python tools/train.py distill/configs/cifar10/resnet-tiny_cifar10.py

Hardware: two CPU cores. Cost: not measured.
Target: none set.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/cifar10.py', '../_base_/default_runtime.py']

model = dict(student=dict(model='wide_resnet28_10', depth=10, widen_factor=1, num_classes=10))
