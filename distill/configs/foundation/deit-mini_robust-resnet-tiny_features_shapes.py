"""A Robust-ResNet that learns the features of a DeiT-style transformer, on the embedded shapes data without labels.

python tools/train.py distill/configs/shapes/deit-mini_shapes.py
python tools/train.py distill/configs/foundation/deit-mini_robust-resnet-tiny_features_shapes.py

Hardware: one CPU core. Cost: not measured.
Target: none set; k-NN and linear probe above those of the untrained student.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/foundation_shapes.py'

model = dict(
    student=dict(
        model='robust_resnet_dw_small',
        dims=(16, 32, 64, 128),
        depths=(1, 1, 3, 1),
        patch_size=4,
        kernel_size=7,
    ),
    teachers=[
        dict(
            name='deit',
            checkpoint='work_dirs/deit-mini_shapes/student_best.pth',
            losses=[
                dict(type='cosine', on='pooled', head='mlp'),
                dict(type='radio', on='grid', student_layer=-2, head='mlp'),
            ],
        ),
    ],
)
