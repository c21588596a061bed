"""The small Cascade R-CNN for three kinds of blood cells."""

_base_ = './cascade-rcnn_tiny.py'
model = dict(
    roi_head=dict(bbox_head=[dict(head, num_classes=3) for head in _base_.model.roi_head.bbox_head]),
    test_cfg=dict(rcnn=dict(max_per_img=100)),
)
