"""Cascade R-CNN, boxes only, with the box heads of Swin's and ConvNeXt's papers: four convolutions and a linear layer,
a box for each class, and the GIoU loss on decoded boxes."""

_base_ = './cascade-rcnn_fpn.py'
model = dict(
    roi_head=dict(
        bbox_head=[
            dict(
                head,
                type='Shared4Conv1FCBBoxHead',
                conv_out_channels=256,
                norm_cfg=dict(type='SyncBN'),
                reg_class_agnostic=False,
                reg_decoded_bbox=True,
                loss_bbox=dict(type='GIoULoss', loss_weight=10.0),
            )
            for head in _base_.model.roi_head.bbox_head
        ],
    ),
)
