"""A DeiT-style student whose distillation token learns a Robust-ResNet's decisions, on the embedded shapes data.

python tools/train.py distill/configs/shapes/robust-resnet-mini_shapes.py
python tools/train.py distill/configs/shapes/robust-resnet-mini_deit-mini-token_shapes.py

Hardware: one CPU core. Cost: about 4 minutes, by ten steps. Target: none set.
"""

_base_ = './deit-mini_shapes.py'

model = dict(
    student=dict(
        _delete_=True,
        model='deit_tiny_distilled_patch16_224',
        img_size=32,
        patch_size=8,
        embed_dim=128,
        depth=4,
        num_heads=4,
        num_classes=10,
    ),
    teacher=dict(checkpoint='work_dirs/robust-resnet-mini_shapes/student_best.pth'),
    losses=[dict(type='cross_entropy', weight=0.5, label_smoothing=0.1), dict(type='hard_label', weight=0.5)],
)
