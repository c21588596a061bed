"""Cascade Mask R-CNN on Robust-ResNet-DW-S learns from Cascade Mask R-CNN on ResNeSt-101, COCO: PKD on the neck.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch

The teacher is trained first, by cascade-mask-rcnn_s101_fpn_syncbn-backbone+head_ms-1x_coco. Weights of the student's
backbone: --cfg-options model.student.backbone.checkpoint=PATH, the official release's, or a student's
student_best.pth.

Hardware: 8 GPUs, 2 images each. Cost: 90.8 M parameters and the teacher's 104.0 M; 12 epochs, time not measured.
Target: nobody has published this pair; the teacher has 48.30 box / 41.56 mask mAP (ResNeSt's README, detectron2).
Published gains of others: Cascade R-CNN on ResNet-50 from 41.0 to 44.4 box mAP by FBKD (Zhang & Ma, ICLR 2021, figure
1); Faster R-CNN on ResNet-50 from 38.4 to 40.3 by PKD from ResNet-101 (mmrazor's configs).
"""
# Written by `make configs` from downstream_configs/_table_: change it there.

_base_ = '../cascade_rcnn/cascade-mask-rcnn_robust-resnet-dw-s_fpn_1x_coco.py'
model = dict(
    _delete_=True,
    type='DenseDistiller',
    student=_base_.model,
    teacher=dict(
        config='cascade-mask-rcnn_s101_fpn_syncbn-backbone+head_ms-1x_coco',
        checkpoint='work_dirs/cascade-mask-rcnn_s101_fpn_syncbn-backbone+head_ms-1x_coco/epoch_12.pth',
    ),
    losses=[dict(type='pkd', on='neck', weight=6.0, strides=(4, 8, 16, 32))],
)
default_hooks = dict(
    check_teacher=dict(type='CheckTeacherHook'),
    save_student=dict(type='SaveDenseStudentHook'),
    checkpoint=dict(save_best='coco/bbox_mAP'),
)
