"""DeepLabV3 on ResNet-50 learns from DeepLabV3 on Robust-ResNet-DW-B, ADE20K: CWD on logits.

torchrun --nproc_per_node=4 tools/train.py THIS_FILE --launcher pytorch

The teacher is trained first, by deeplabv3_robust-resnet-dw-b-d8_160k_ade20k-512x512.

Hardware: 4 GPUs, 4 images each. Cost: 68.2 M parameters and the teacher's 189.8 M; 160 000 iterations, time not
measured.
Target: nobody has published this pair; the student alone has 42.66 mIoU single-scale, 44.09 multi-scale with flipping
(mmseg 1.2.2, configs/deeplabv3/metafile.yaml). Published gains of others: DeepLabV3 on ResNet-18 from 33.91 to 35.41
mIoU by CIRKD from ResNet-101 (CIRKD's README).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = '../deeplabv3/deeplabv3_r50-d8_160k_ade20k-512x512.py'
model = dict(
    _delete_=True,
    type='DenseDistiller',
    student=_base_.model,
    teacher=dict(
        config='deeplabv3_robust-resnet-dw-b-d8_160k_ade20k-512x512',
        checkpoint='work_dirs/deeplabv3_robust-resnet-dw-b-d8_160k_ade20k-512x512/iter_160000.pth',
    ),
    losses=[dict(type='cwd', on='logits', weight=3.0, temperature=4.0)],
)
default_hooks = dict(
    check_teacher=dict(type='CheckTeacherHook'),
    save_student=dict(type='SaveDenseStudentHook'),
    checkpoint=dict(save_best='mIoU'),
)
