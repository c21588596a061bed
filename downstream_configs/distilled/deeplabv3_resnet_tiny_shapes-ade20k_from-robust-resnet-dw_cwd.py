"""DeepLabV3 on a small ResNet learns from DeepLabV3 on a small Robust-ResNet, the embedded ADE20K-like scenes: CWD on
logits.

python tools/make_data.py data/shapes --sets ade20k
python tools/train.py THIS_FILE

The teacher is trained first, by deeplabv3_robust-resnet-dw_tiny_shapes-ade20k.

Hardware: 2 CPU cores. Cost: 0.5 M parameters and the teacher's 0.5 M; 1 000 iterations, time not measured.
Target: a score above that of the student alone, deeplabv3_resnet_tiny_shapes-ade20k (this project's own).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = '../deeplabv3/deeplabv3_resnet_tiny_shapes-ade20k.py'
model = dict(
    _delete_=True,
    type='DenseDistiller',
    student=_base_.model,
    teacher=dict(
        config='deeplabv3_robust-resnet-dw_tiny_shapes-ade20k',
        checkpoint='work_dirs/deeplabv3_robust-resnet-dw_tiny_shapes-ade20k/iter_1000.pth',
    ),
    losses=[dict(type='cwd', on='logits', weight=3.0, temperature=4.0)],
)
default_hooks = dict(
    check_teacher=dict(type='CheckTeacherHook'),
    save_student=dict(type='SaveDenseStudentHook'),
    checkpoint=dict(save_best='mIoU'),
)
