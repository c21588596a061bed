"""A smaller DeiT-style transformer that learns from a wider Robust-ResNet, on the embedded shapes data.

python tools/train.py distill/configs/shapes/robust-resnet-mini_shapes.py
python tools/train.py distill/configs/shapes/robust-resnet-mini_deit-tiny_shapes.py

Hardware: one CPU core. Cost: about 1 minute.
Target: top-1 on val ≥ 85 % with 12,000 images, as in the demo.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/shapes.py', '../_base_/default_runtime.py']

model = dict(
    teacher=dict(checkpoint='work_dirs/robust-resnet-mini_shapes/student_best.pth'),
    student=dict(
        model='deit_tiny_patch16_224',
        img_size=32,
        patch_size=8,
        embed_dim=96,
        depth=2,
        num_heads=3,
        class_token=False,
        global_pool='avg',
        weight_init='jax',
        mlp_ratio=2.0,
        num_classes=10,
    ),
    losses=[
        dict(type='cross_entropy', weight=0.5, label_smoothing=0.1),
        dict(type='soft_target_kl', weight=0.5, temperature=1.0),
    ],
)

# A transformer wants a smaller learning rate and more epochs than the CNNs.
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
max_epochs = 8
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='TimmCosineLR', end=max_epochs, warmup=0.5, lr_min=5e-5, convert_to_iter_based=True),
]
