"""A small ResNet on the embedded shapes data, without a teacher.

python tools/train.py distill/configs/shapes/resnet-tiny_shapes.py

Hardware: one CPU core. Cost: about 1 minute. Target: top-1 on val ≥ 85 %.
"""

_base_ = ['../_base_/shapes.py', '../_base_/default_runtime.py']
model = dict(student=dict(model='resnet18', channels=(16, 32, 64, 128), num_classes=10))
