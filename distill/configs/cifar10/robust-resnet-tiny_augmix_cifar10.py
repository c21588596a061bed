"""A Robust-ResNet that sees mixtures by AugMix, without a teacher, on CIFAR-10 as class folders.

python tools/train.py distill/configs/cifar10/robust-resnet-tiny_augmix_cifar10.py

Hardware: two CPU cores. Cost: not measured.
Target: none set.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/cifar10.py', '../_base_/default_runtime.py']

model = dict(
    student=dict(
        model='robust_resnet_dw_small',
        dims=(16, 32, 64, 128),
        depths=(2, 2, 4, 2),
        patch_size=4,
        kernel_size=7,
        num_classes=10,
    ),
)

train_dataloader = dict(dataset=dict(corrupt=dict(kinds=('augmix',))))
