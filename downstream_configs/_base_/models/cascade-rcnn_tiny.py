"""Cascade R-CNN narrow enough for CPU cores, for the ten classes of the embedded scenes: the same three
stages, a 64-channel pyramid, 128-wide box heads, 32 RoIs an image and anchors of half the size."""

_base_ = './cascade-rcnn_fpn.py'
model = dict(
    backbone=dict(
        type='TimmBackbone',
        model='robust_resnet_dw_small',
        dims=(16, 32, 64, 128),
        depths=(2, 2, 4, 2),
        patch_size=4,
        kernel_size=7,
        strides=(4, 8, 16, 32),
    ),
    neck=[
        dict(type='StagePyramid', in_channels=[64, 128, 256, 512], in_strides=[4, 8, 16, 32], out_channels=64),
        dict(type='FPN', in_channels=[64, 64, 64, 64], out_channels=64, num_outs=4),
    ],
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=1), out_channels=64),
        bbox_head=[
            dict(
                type='Shared2FCBBoxHead',
                in_channels=64,
                fc_out_channels=128,
                roi_feat_size=7,
                num_classes=10,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=stds),
                reg_class_agnostic=True,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
                loss_bbox=dict(type='SmoothL1Loss', beta=1.0),
            )
            for stds in ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067])
        ],
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=iou,
                    neg_iou_thr=iou,
                    min_pos_iou=iou,
                    match_low_quality=False,
                ),
                sampler=dict(type='RandomSampler', num=32, pos_fraction=0.25, add_gt_as_proposals=True),
                mask_size=28,
                pos_weight=-1,
                debug=False,
            )
            for iou in (0.5, 0.6, 0.7)
        ],
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100), rcnn=dict(max_per_img=50)),
)
