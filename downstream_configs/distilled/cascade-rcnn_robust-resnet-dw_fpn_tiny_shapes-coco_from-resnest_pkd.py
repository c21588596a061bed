"""Cascade R-CNN on a small Robust-ResNet learns from Cascade Mask R-CNN on a small ResNeSt, the embedded COCO-like
scenes: PKD on the neck.

python tools/make_data.py data/shapes --sets coco
python tools/train.py THIS_FILE

The teacher is trained first, by cascade-mask-rcnn_resnest_fpn_tiny_shapes-coco.

Hardware: 2 CPU cores. Cost: 1.9 M parameters and the teacher's 2.3 M; 4 epochs, time not measured.
Target: a score above that of the student alone, cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco (this project's
own).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = '../cascade_rcnn/cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco.py'
model = dict(
    _delete_=True,
    type='DenseDistiller',
    student=_base_.model,
    teacher=dict(
        config='cascade-mask-rcnn_resnest_fpn_tiny_shapes-coco',
        checkpoint='work_dirs/cascade-mask-rcnn_resnest_fpn_tiny_shapes-coco/epoch_8.pth',
    ),
    losses=[dict(type='pkd', on='neck', weight=6.0, strides=(4, 8, 16, 32))],
)
default_hooks = dict(
    check_teacher=dict(type='CheckTeacherHook'),
    save_student=dict(type='SaveDenseStudentHook'),
    checkpoint=dict(save_best='coco/bbox_mAP'),
)
