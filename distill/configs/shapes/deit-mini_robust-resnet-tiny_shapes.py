"""A Robust-ResNet that learns from a DeiT-style transformer, on the embedded shapes data.

python tools/train.py distill/configs/shapes/deit-mini_shapes.py
python tools/train.py distill/configs/shapes/deit-mini_robust-resnet-tiny_shapes.py

Hardware: one CPU core. Cost: about 1 minute.
Target: top-1 on val ≥ 85 % with 12,000 images, as in the demo.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/shapes.py', '../_base_/default_runtime.py']

model = dict(
    teacher=dict(checkpoint='work_dirs/deit-mini_shapes/student_best.pth'),
    student=dict(
        model='robust_resnet_dw_small',
        dims=(16, 32, 64, 128),
        depths=(1, 1, 3, 1),
        patch_size=4,
        kernel_size=7,
        num_classes=10,
    ),
    losses=[
        dict(type='cross_entropy', weight=0.5, label_smoothing=0.1),
        dict(type='soft_target_kl', weight=0.5, temperature=1.0),
    ],
)
