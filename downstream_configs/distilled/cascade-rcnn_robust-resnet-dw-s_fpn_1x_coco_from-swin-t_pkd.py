"""Cascade R-CNN on Robust-ResNet-DW-S learns from Cascade R-CNN on Swin-T, COCO: PKD on the neck.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch

The teacher is trained first, by cascade-rcnn_swin-t_fpn_4conv1fc-giou_ms-crop-3x_coco. Weights of the student's
backbone: --cfg-options model.student.backbone.checkpoint=PATH, the official release's, or a student's
student_best.pth.

Hardware: 8 GPUs, 2 images each. Cost: 82.9 M parameters and the teacher's 78.0 M; 12 epochs, time not measured.
Target: nobody has published this pair. Published gains of others: Cascade R-CNN on ResNet-50 from 41.0 to 44.4 box
mAP by FBKD (Zhang & Ma, ICLR 2021, figure 1); Faster R-CNN on ResNet-50 from 38.4 to 40.3 by PKD from ResNet-101
(mmrazor's configs).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = '../cascade_rcnn/cascade-rcnn_robust-resnet-dw-s_fpn_1x_coco.py'
model = dict(
    _delete_=True,
    type='DenseDistiller',
    student=_base_.model,
    teacher=dict(
        config='cascade-rcnn_swin-t_fpn_4conv1fc-giou_ms-crop-3x_coco',
        checkpoint='work_dirs/cascade-rcnn_swin-t_fpn_4conv1fc-giou_ms-crop-3x_coco/epoch_36.pth',
    ),
    losses=[dict(type='pkd', on='neck', weight=6.0, strides=(4, 8, 16, 32))],
)
default_hooks = dict(
    check_teacher=dict(type='CheckTeacherHook'),
    save_student=dict(type='SaveDenseStudentHook'),
    checkpoint=dict(save_best='coco/bbox_mAP'),
)
