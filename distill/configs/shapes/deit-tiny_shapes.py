"""A smaller DeiT-style student on the embedded shapes data, without a teacher.

python tools/train.py distill/configs/shapes/deit-tiny_shapes.py

Hardware: one CPU core. Cost: about 3 minutes. Target: top-1 on val ≥ 85 %.
"""

_base_ = './deit-mini_shapes.py'

model = dict(student=dict(depth=3))
