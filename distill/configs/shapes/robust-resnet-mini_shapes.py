"""A wider Robust-ResNet without a teacher, on the embedded shapes data.

python tools/train.py distill/configs/shapes/robust-resnet-mini_shapes.py

Hardware: one CPU core. Cost: about 1 minute.
Target: top-1 on val ≥ 90 % with 12,000 images, as in the demo.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/shapes.py', '../_base_/default_runtime.py']

model = dict(
    student=dict(
        model='robust_resnet_dw_small',
        dims=(24, 48, 96, 192),
        depths=(2, 2, 2, 1),
        patch_size=4,
        kernel_size=7,
        num_classes=10,
    ),
)

max_epochs = 4
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='TimmCosineLR', end=max_epochs, warmup=0.5, lr_min=6e-4, convert_to_iter_based=True),
]
