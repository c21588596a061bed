"""A small ResNet (pre-activation, WRN-10-1) that learns from a wider Robust-ResNet that saw every shape in every
texture, on the embedded shapes data.

python tools/train.py distill/configs/shapes/robust-resnet-broad_shapes.py
python tools/train.py distill/configs/shapes/robust-resnet-broad_resnet-tiny_shapes.py

Hardware: one CPU core. Cost: about 1 minute.
Target: top-1 on val ≥ 85 % with 12,000 images, as in the demo.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = ['../_base_/shapes.py', '../_base_/default_runtime.py']

model = dict(
    teacher=dict(checkpoint='work_dirs/robust-resnet-broad_shapes/student_best.pth'),
    student=dict(model='wide_resnet28_10', depth=10, widen_factor=1, stem_stride=2, num_classes=10),
    losses=[
        dict(type='cross_entropy', weight=0.5, label_smoothing=0.1),
        dict(type='soft_target_kl', weight=0.5, temperature=1.0),
    ],
)
