"""A shallow ConvNeXt-T with a sixth of its channels."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [16, 32, 64, 128]
backbone = dict(
    type='TimmBackbone',
    model='convnext_tiny',
    dims=(16, 32, 64, 128),
    depths=(1, 1, 3, 1),
    strides=(4, 8, 16, 32),
)
neck = [
    dict(type='StagePyramid', in_channels=channels, in_strides=[4, 8, 16, 32], out_channels=64),
    dict(type='FPN', in_channels=[64, 64, 64, 64], out_channels=64, num_outs=4),
]
