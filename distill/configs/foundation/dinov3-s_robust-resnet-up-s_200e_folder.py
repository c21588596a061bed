"""Robust-ResNet-Up-Inverted-DW-S that learns the features of DINOv3 ViT-S/16, on a folder of images.

python tools/train.py THIS_FILE --data-root FOLDER --amp
Without a network: --cfg-options model.teachers.0.checkpoint=FILE, which is timm's file of the weights.

Hardware: 1 GPU of 24 GB. Cost: not measured here; the student's steps and the teacher's forward passes, or from a
cache the former alone.
Target: none is published for this pair; k-NN and linear probe of the student beside those of its teacher.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/foundation_folder.py'

model = dict(
    student=dict(model='robust_resnet_up_inverted_dw_small'),
    teachers=[
        dict(
            # The weights come under Meta's DINOv3 licence.
            name='dinov3',
            model='vit_small_patch16_dinov3.lvd1689m',
            pretrained=True,
            pooling='cls',
            size=224,
            losses=[
                dict(type='cosine', on='pooled', head='mlp'),
                dict(type='radio', on='grid', student_layer=-2, head='mlp'),
            ],
        ),
    ],
)
