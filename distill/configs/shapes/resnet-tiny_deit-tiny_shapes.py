"""A DeiT-style student that learns from a small ResNet, on the embedded shapes data.

python tools/train.py distill/configs/shapes/resnet-tiny_shapes.py
python tools/train.py distill/configs/shapes/resnet-tiny_deit-tiny_shapes.py

Hardware: one CPU core. Cost: about 3 minutes, by ten steps. Target: none set.
"""

_base_ = './deit-tiny_shapes.py'

model = dict(
    teacher=dict(checkpoint='work_dirs/resnet-tiny_shapes/student_best.pth'),
    losses=[
        dict(type='cross_entropy', weight=0.5, label_smoothing=0.1),
        dict(type='soft_target_kl', weight=0.5, temperature=1.0),
    ],
)
