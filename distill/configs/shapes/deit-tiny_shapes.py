"""A DeiT-style teacher on the embedded shapes data.

python tools/train.py distill/configs/shapes/deit-tiny_shapes.py

Two CPU cores, about two minutes; top-1 on val ≥ 90 %.
"""

_base_ = '../_base_/shapes.py'

model = dict(
    student=dict(
        model='deit_tiny_patch16_224',
        img_size=32,
        patch_size=4,
        embed_dim=64,
        depth=6,
        num_heads=2,
        num_classes=10,
    ),
)
