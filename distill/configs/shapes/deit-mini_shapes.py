"""A DeiT-style transformer without a teacher, on the embedded shapes data.

python tools/train.py distill/configs/shapes/deit-mini_shapes.py

Hardware: one CPU core. Cost: about 1½ minutes.
Target: top-1 on val ≥ 90 % with 12,000 images, as in the demo.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/shapes.py', '../_base_/default_runtime.py']

model = dict(
    student=dict(
        model='deit_tiny_patch16_224',
        img_size=32,
        patch_size=8,
        embed_dim=128,
        depth=2,
        num_heads=4,
        class_token=False,
        global_pool='avg',
        weight_init='jax',
        mlp_ratio=2.0,
        num_classes=10,
    ),
)

# A transformer wants a smaller learning rate and more epochs than the CNNs.
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
max_epochs = 10
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='TimmCosineLR', end=max_epochs, warmup=0.5, lr_min=5e-5, convert_to_iter_based=True),
]
