"""A Robust-ResNet that learns from a DeiT-style teacher, on the embedded shapes data.

python tools/train.py distill/configs/shapes/deit-mini_shapes.py
python tools/train.py distill/configs/shapes/deit-mini_robust-resnet-tiny_shapes.py

Hardware: one CPU core. Cost: about 2 minutes. Target: top-1 on val ≥ 85 %.
"""

_base_ = './robust-resnet-tiny_shapes.py'

model = dict(
    teacher=dict(checkpoint='work_dirs/deit-mini_shapes/student_best.pth'),
    losses=[
        dict(type='cross_entropy', weight=0.5, label_smoothing=0.1),
        dict(type='soft_target_kl', weight=0.5, temperature=1.0),
    ],
)
