"""A small ResNet that learns from a DeiT-style teacher, on the embedded shapes data.

python tools/train.py distill/configs/shapes/deit-mini_shapes.py
python tools/train.py distill/configs/shapes/deit-mini_resnet-tiny_shapes.py

Hardware: one CPU core. Cost: about 3 minutes, by ten steps. Target: none set.
"""

_base_ = './resnet-tiny_shapes.py'

model = dict(
    teacher=dict(checkpoint='work_dirs/deit-mini_shapes/student_best.pth'),
    losses=[
        dict(type='cross_entropy', weight=0.5, label_smoothing=0.1),
        dict(type='soft_target_kl', weight=0.5, temperature=1.0),
    ],
)
