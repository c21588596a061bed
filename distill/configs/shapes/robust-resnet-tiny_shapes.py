"""A Robust-ResNet without a teacher, on the embedded shapes data.

python tools/train.py distill/configs/shapes/robust-resnet-tiny_shapes.py

Hardware: one CPU core. Cost: about half a minute.
Target: top-1 on val ≥ 85 % with 12,000 images, as in the demo.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/shapes.py', '../_base_/default_runtime.py']

model = dict(
    student=dict(
        model='robust_resnet_dw_small',
        dims=(16, 32, 64, 128),
        depths=(1, 1, 3, 1),
        patch_size=4,
        kernel_size=7,
        num_classes=10,
    ),
)
