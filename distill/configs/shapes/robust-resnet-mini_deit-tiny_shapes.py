"""A DeiT-style student that learns from a Robust-ResNet teacher, on the embedded shapes data.

python tools/train.py distill/configs/shapes/robust-resnet-mini_shapes.py
python tools/train.py distill/configs/shapes/robust-resnet-mini_deit-tiny_shapes.py

Hardware: one CPU core. Cost: about 4 minutes. Target: top-1 on val ≥ 85 %.
"""

_base_ = './deit-tiny_shapes.py'

model = dict(
    teacher=dict(checkpoint='work_dirs/robust-resnet-mini_shapes/student_best.pth'),
    losses=[
        dict(type='cross_entropy', weight=0.5, label_smoothing=0.1),
        dict(type='soft_target_kl', weight=0.5, temperature=1.0),
    ],
)
