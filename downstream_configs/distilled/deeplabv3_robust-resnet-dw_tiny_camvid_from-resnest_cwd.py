"""DeepLabV3 on a small Robust-ResNet learns from DeepLabV3 on a small ResNeSt, CamVid street scenes (11 classes, 480 ×
360) at half size: CWD on logits.

python tools/train.py THIS_FILE --data-root PATH_OF_camvid_ade

The teacher is trained first, by deeplabv3_resnest_tiny_camvid.

Hardware: 2 CPU cores. Cost: 0.9 M parameters and the teacher's 0.9 M; 1 000 iterations, time not measured.
Target: a score above that of the student alone, deeplabv3_robust-resnet-dw_tiny_camvid (this project's own).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = '../deeplabv3/deeplabv3_robust-resnet-dw_tiny_camvid.py'
model = dict(
    _delete_=True,
    type='DenseDistiller',
    student=_base_.model,
    teacher=dict(
        config='deeplabv3_resnest_tiny_camvid',
        checkpoint='work_dirs/deeplabv3_resnest_tiny_camvid/iter_1000.pth',
    ),
    losses=[dict(type='cwd', on='logits', weight=3.0, temperature=4.0)],
)
default_hooks = dict(
    check_teacher=dict(type='CheckTeacherHook'),
    save_student=dict(type='SaveDenseStudentHook'),
    checkpoint=dict(save_best='mIoU'),
)
