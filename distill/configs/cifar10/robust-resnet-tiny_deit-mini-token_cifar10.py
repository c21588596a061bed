"""A DeiT-style transformer whose distillation token learns a Robust-ResNet's decisions, on CIFAR-10 as class folders.

python tools/train.py distill/configs/cifar10/robust-resnet-tiny_cifar10.py
python tools/train.py distill/configs/cifar10/robust-resnet-tiny_deit-mini-token_cifar10.py

Hardware: two CPU cores. Cost: not measured.
Target: none set.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/cifar10.py', '../_base_/default_runtime.py']

model = dict(
    teacher=dict(checkpoint='work_dirs/robust-resnet-tiny_cifar10/student_best.pth'),
    student=dict(
        model='deit_tiny_distilled_patch16_224',
        img_size=32,
        patch_size=8,
        embed_dim=128,
        depth=6,
        num_heads=4,
        num_classes=10,
    ),
    losses=[dict(type='cross_entropy', weight=0.5, label_smoothing=0.1), dict(type='hard_label', weight=0.5)],
)

# A transformer wants a smaller learning rate and more epochs than the CNNs.
optim_wrapper = dict(optimizer=dict(lr=7e-4))
max_epochs = 16
train_cfg = dict(max_epochs=max_epochs, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=1, end=max_epochs, convert_to_iter_based=True),
]
