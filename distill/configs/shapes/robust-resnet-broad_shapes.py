"""A wider Robust-ResNet that saw every shape in every texture without a teacher, on the embedded shapes data.

python tools/train.py distill/configs/shapes/robust-resnet-broad_shapes.py

Hardware: one CPU core. Cost: about 1½ minutes.
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

max_epochs = 7
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='TimmCosineLR', end=max_epochs, warmup=0.5, lr_min=6e-4, convert_to_iter_based=True),
]

# Made by `tools/make_data.py data/shapes-broad --sets imagenet --size 32 --train 12000 --texture-agreement 0.1`.
data_root = 'data/shapes-broad/imagenet'
train_dataloader = dict(dataset=dict(root=data_root))
val_dataloader = dict(dataset=dict(root=data_root))
test_dataloader = val_dataloader
