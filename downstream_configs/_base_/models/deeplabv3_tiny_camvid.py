"""The small model for CamVid's eleven classes and crops of 160 × 192."""

_base_ = './deeplabv3_tiny.py'
model = dict(
    data_preprocessor=dict(size=(160, 192)),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
)
