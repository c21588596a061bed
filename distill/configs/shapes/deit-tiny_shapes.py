"""A smaller DeiT-style student on the embedded shapes data, without a teacher.

python tools/train.py distill/configs/shapes/deit-tiny_shapes.py

Hardware: one CPU core. Cost: about 3 minutes. Target: top-1 on val ≥ 85 %.
"""

_base_ = './deit-mini_shapes.py'

model = dict(student=dict(depth=3))

max_epochs = 12
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=1, end=max_epochs, convert_to_iter_based=True),
]
