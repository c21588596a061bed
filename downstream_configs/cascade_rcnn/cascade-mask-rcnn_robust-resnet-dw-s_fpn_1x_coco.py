"""Cascade Mask R-CNN on Robust-ResNet-DW-S, COCO, 1x.

torchrun --nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --cfg-options model.backbone.checkpoint=PATH

Hardware: 8 GPUs with 24 GB, 2 images each. Cost: about a day on such GPUs.
Target: nobody has published Cascade Mask R-CNN on a Robust-ResNet. ResNet-50 with its own 1x recipe has 41.2 box
and 35.9 mask mAP (mmdet 3.3.0, configs/cascade_rcnn/metafile.yml); that is what to beat.
"""

_base_ = [
    '../_base_/models/cascade-mask-rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x_adamw.py',
    '../_base_/runtime_det.py',
]
model = dict(
    backbone=dict(
        type='TimmBackbone',
        model='robust_resnet_dw_small',
        checkpoint=None,  # ImageNet weights: the official release's, or a student's student_best.pth
        strides=(16, 16, 16, 32),
    ),
    # The 16-pixel patches leave three maps at stride 16; the pyramid wants 4, 8, 16, 32.
    neck=[
        dict(type='StagePyramid', in_channels=[384, 768, 1536, 3072], in_strides=[16, 16, 16, 32]),
        dict(type='FPN', in_channels=[256, 256, 256, 256], out_channels=256, num_outs=5),
    ],
)
