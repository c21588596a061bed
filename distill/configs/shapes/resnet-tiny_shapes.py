"""A small ResNet (pre-activation, WRN-10-1) without a teacher, on the embedded shapes data.

python tools/train.py distill/configs/shapes/resnet-tiny_shapes.py

Hardware: one CPU core. Cost: about half a minute.
Target: top-1 on val ≥ 85 % with 12,000 images, as in the demo.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/shapes.py', '../_base_/default_runtime.py']

model = dict(student=dict(model='wide_resnet28_10', depth=10, widen_factor=1, stem_stride=2, num_classes=10))
