"""DeepLabV3 at output stride 16: half the dilations."""

_base_ = './deeplabv3.py'
model = dict(decode_head=dict(dilations=(1, 6, 12, 18)))
