"""A DeiT-style transformer that sees mixtures by AugMix and PRIME and corrupted images, without a teacher, on CIFAR-10
as class folders.

python tools/train.py distill/configs/cifar10/deit-mini_broad_cifar10.py

Hardware: two CPU cores. Cost: not measured.
Target: none set.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/cifar10.py', '../_base_/default_runtime.py']

model = dict(
    student=dict(
        model='deit_tiny_patch16_224',
        img_size=32,
        patch_size=8,
        embed_dim=128,
        depth=6,
        num_heads=4,
        class_token=False,
        global_pool='avg',
        num_classes=10,
    ),
)

train_dataloader = dict(
    dataset=dict(
        corrupt=dict(
            kinds=('augmix', 'prime', 'holdout'),
            prime=dict(colour_cut=100, colour_temperature=0.01, colour_band=None),
        ),
    ),
)

# A transformer wants a smaller learning rate and more epochs than the CNNs.
optim_wrapper = dict(optimizer=dict(lr=7e-4))
max_epochs = 16
train_cfg = dict(max_epochs=max_epochs, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=1, end=max_epochs, convert_to_iter_based=True),
]
