"""A quarter of ResNet-18's channels."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [16, 32, 64, 128]
backbone = dict(
    type='TimmBackbone',
    model='resnet18',
    channels=(16, 32, 64, 128),
    strides=(4, 8, 16, 32),
)
neck = [
    dict(type='StagePyramid', in_channels=channels, in_strides=[4, 8, 16, 32], out_channels=64),
    dict(type='FPN', in_channels=[64, 64, 64, 64], out_channels=64, num_outs=4),
]
