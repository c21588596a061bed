"""The small DeepLabV3 with DeepLabV3+'s head."""

_base_ = './deeplabv3_tiny.py'
model = dict(decode_head=dict(type='DepthwiseSeparableASPPHead', c1_channels=16))
