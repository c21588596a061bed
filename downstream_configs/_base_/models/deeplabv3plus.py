"""DeepLabV3+ (Chen et al., ECCV 2018): DeepLabV3's pyramid with separable convolutions, its result refined with the
first stage's map. For output stride 8."""

_base_ = './deeplabv3.py'
model = dict(decode_head=dict(type='DepthwiseSeparableASPPHead', c1_channels=48))
