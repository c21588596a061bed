"""DeiT-like, Robust-ResNet and ResNet-like teach one another, on CIFAR-10 as class folders.

python tools/transfer_matrix.py distill/matrices/cifar10.py

Hardware: two CPU cores. Cost: within an hour for 20,000 training images. Result: docs/transfer.md.
"""

_base_ = './shapes.py'

data_root = 'data/cifar10'
students = dict(
    deit='distill/configs/cifar10/deit-tiny_cifar10.py',
    robust='distill/configs/cifar10/robust-resnet-tiny_cifar10.py',
    resnet='distill/configs/cifar10/resnet-tiny_cifar10.py',
)
epochs = dict(deit=4, robust=2, resnet=2)
