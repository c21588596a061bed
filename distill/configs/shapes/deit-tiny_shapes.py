"""A smaller DeiT-style transformer without a teacher, on the embedded shapes data.

python tools/train.py distill/configs/shapes/deit-tiny_shapes.py

Hardware: one CPU core. Cost: about 3 minutes.
Target: top-1 on val ≥ 85 %.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/shapes.py', '../_base_/default_runtime.py']

model = dict(
    student=dict(
        model='deit_tiny_patch16_224',
        img_size=32,
        patch_size=8,
        embed_dim=128,
        depth=3,
        num_heads=4,
        class_token=False,
        global_pool='avg',
        num_classes=10,
    ),
)

# A transformer wants a smaller learning rate and more epochs than the CNNs.
optim_wrapper = dict(optimizer=dict(lr=7e-4))
max_epochs = 12
train_cfg = dict(max_epochs=max_epochs, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=1, end=max_epochs, convert_to_iter_based=True),
]
