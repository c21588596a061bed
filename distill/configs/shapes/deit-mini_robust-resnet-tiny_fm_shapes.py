"""A Robust-ResNet that matches a DeiT-style transformer as a function, on the embedded shapes data.

python tools/train.py distill/configs/shapes/deit-mini_shapes.py
python tools/train.py distill/configs/shapes/deit-mini_robust-resnet-tiny_fm_shapes.py

Hardware: one CPU core. Cost: not measured.
Target: none set.
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
    losses=[dict(type='soft_target_kl', temperature=1.0)],
    data_preprocessor=dict(mixup=dict(mixup_alpha=1.0, cutmix_alpha=0.0, label_smoothing=0.0, num_classes=10)),
)

max_epochs = 20
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
param_scheduler = [
    dict(
        type='TimmCosineLR',
        end=max_epochs,
        warmup=1,
        lr_min=1e-5,
        warmup_prefix=True,
        convert_to_iter_based=True,
    )
]
