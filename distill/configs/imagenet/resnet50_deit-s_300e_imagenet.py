"""DeiT-S that learns from ResNet-50, DeiT's 300-epoch recipe with soft targets.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp

Hardware: 8 GPUs of 24 GB. Cost: not measured here; that of the student alone and the teacher's forward passes.
Target: above its teacher (Wang et al., ICLR 2023, section 6).
"""

_base_ = './deit-s_300e_imagenet.py'

model = dict(
    teacher=dict(checkpoint='work_dirs/resnet50_300e_imagenet/student_best.pth'),
    losses=[
        dict(type='cross_entropy', weight=0.5),
        dict(type='soft_target_kl', weight=0.5, temperature=1.0),
    ],
)
