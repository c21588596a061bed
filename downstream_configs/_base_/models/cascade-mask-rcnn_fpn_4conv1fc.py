"""Cascade Mask R-CNN whose box heads are four convolutions and one linear layer, with norms over the batches of all
processes in box and mask heads, as ResNeSt's recipe has them."""

_base_ = './cascade-mask-rcnn_fpn.py'
model = dict(
    roi_head=dict(
        bbox_head=[
            dict(head, type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=dict(type='SyncBN'))
            for head in _base_.model.roi_head.bbox_head
        ],
        mask_head=dict(norm_cfg=dict(type='SyncBN')),
    ),
)
