"""A Robust-ResNet teacher on the embedded shapes data.

python tools/train.py distill/configs/shapes/robust-resnet-mini_shapes.py

Hardware: one CPU core. Cost: about 2 minutes. Target: top-1 on val ≥ 90 %.
"""

_base_ = './robust-resnet-tiny_shapes.py'

model = dict(student=dict(dims=(24, 48, 96, 192)))
