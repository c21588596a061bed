"""Cascade R-CNN on a small Robust-ResNet learns from Cascade R-CNN on a small ResNeSt, BCCD blood cells (3 classes, 640
× 480) at half size: PKD on the neck.

python tools/train.py THIS_FILE --data-root PATH_OF_bccd_coco

The teacher is trained first, by cascade-rcnn_resnest_fpn_tiny_bccd.

Hardware: 2 CPU cores. Cost: 2.1 M parameters and the teacher's 2.1 M; 8 epochs, time not measured.
Target: a score above that of the student alone, cascade-rcnn_robust-resnet-dw_fpn_tiny_bccd (this project's own).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = '../cascade_rcnn/cascade-rcnn_robust-resnet-dw_fpn_tiny_bccd.py'
model = dict(
    _delete_=True,
    type='DenseDistiller',
    student=_base_.model,
    teacher=dict(
        config='cascade-rcnn_resnest_fpn_tiny_bccd',
        checkpoint='work_dirs/cascade-rcnn_resnest_fpn_tiny_bccd/epoch_8.pth',
    ),
    losses=[dict(type='pkd', on='neck', weight=6.0, strides=(4, 8, 16, 32))],
)
default_hooks = dict(
    check_teacher=dict(type='CheckTeacherHook'),
    save_student=dict(type='SaveDenseStudentHook'),
    checkpoint=dict(save_best='coco/bbox_mAP'),
)
