"""DeepLabV3 on Robust-ResNet-DW-S learns from DeepLabV3 on ConvNeXt-T, ADE20K: CWD on logits.

torchrun --nproc_per_node=4 tools/train.py THIS_FILE --launcher pytorch

The teacher is trained first, by deeplabv3_convnext-t-d8_160k_ade20k-512x512. Weights of the student's backbone:
--cfg-options model.student.backbone.checkpoint=PATH, the official release's, or a student's student_best.pth.

Hardware: 4 GPUs, 4 images each. Cost: 96.6 M parameters and the teacher's 52.0 M; 160 000 iterations, time not
measured.
Target: nobody has published this pair. Published gains of others: DeepLabV3 on ResNet-18 from 33.91 to 35.41 mIoU by
CIRKD from ResNet-101 (CIRKD's README).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = '../deeplabv3/deeplabv3_robust-resnet-dw-s-d8_160k_ade20k-512x512.py'
model = dict(
    _delete_=True,
    type='DenseDistiller',
    student=_base_.model,
    teacher=dict(
        config='deeplabv3_convnext-t-d8_160k_ade20k-512x512',
        checkpoint='work_dirs/deeplabv3_convnext-t-d8_160k_ade20k-512x512/iter_160000.pth',
    ),
    losses=[dict(type='cwd', on='logits', weight=3.0, temperature=4.0)],
)
default_hooks = dict(
    check_teacher=dict(type='CheckTeacherHook'),
    save_student=dict(type='SaveDenseStudentHook'),
    checkpoint=dict(save_best='mIoU'),
)
