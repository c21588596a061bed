"""Cascade R-CNN narrow enough for CPU cores, for the ten classes of the embedded scenes: the same three
stages, a 64-channel pyramid, 128-wide box heads, 32 RoIs an image and anchors of half the size. The backbone and its
neck come from the config that inherits."""

_base_ = './cascade-rcnn_fpn.py'
model = dict(
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=1), out_channels=64),
        bbox_head=[
            dict(head, in_channels=64, fc_out_channels=128, num_classes=10) for head in _base_.model.roi_head.bbox_head
        ],
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=[
            dict(stage, sampler=dict(type='SeededRandomSampler', num=32, pos_fraction=0.25, add_gt_as_proposals=True))
            for stage in _base_.model.train_cfg.rcnn
        ],
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100), rcnn=dict(max_per_img=50)),
)
