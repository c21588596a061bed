"""A Robust-ResNet that learns from a DeiT-style transformer and sees corrupted images, on CIFAR-10 as class folders.

python tools/train.py distill/configs/cifar10/deit-mini_cifar10.py
python tools/train.py distill/configs/cifar10/deit-mini_robust-resnet-tiny_corrupted_cifar10.py

Hardware: two CPU cores. Cost: not measured.
Target: none set.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/cifar10.py', '../_base_/default_runtime.py']

model = dict(
    teacher=dict(checkpoint='work_dirs/deit-mini_cifar10/student_best.pth'),
    student=dict(
        model='robust_resnet_dw_small',
        dims=(16, 32, 64, 128),
        depths=(2, 2, 4, 2),
        patch_size=4,
        kernel_size=7,
        num_classes=10,
    ),
    losses=[
        dict(type='cross_entropy', weight=0.5, label_smoothing=0.1),
        dict(type='soft_target_kl', weight=0.5, temperature=1.0),
    ],
)

train_dataloader = dict(dataset=dict(corrupt=dict(severities=(1, 2, 3, 4, 5))))
