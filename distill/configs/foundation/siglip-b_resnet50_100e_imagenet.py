"""ResNet-50 that learns the features of SigLIP ViT-B/16, on ImageNet without labels.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --data-root data/imagenet --launcher pytorch --amp
Without a network: --cfg-options model.teachers.0.checkpoint=FILE, which is timm's file of the weights.

Hardware: 8 GPUs of 40 GB. Cost: not measured here; the student's steps and the teacher's forward passes, or from a
cache the former alone.
Target: none is published for this pair; k-NN and linear probe of the student beside those of its teacher.
"""
# Written by `make configs` from distill/configs/_table_: change it there.

_base_ = '../_base_/foundation_imagenet.py'

model = dict(
    student=dict(model='resnet50'),
    teachers=[
        dict(
            name='siglip',
            model='vit_base_patch16_siglip_224.webli',
            pretrained=True,
            size=224,
            losses=[
                dict(type='cosine', on='pooled', head='mlp'),
                dict(type='radio', on='grid', student_layer=-2, head='mlp'),
            ],
        ),
    ],
)
