"""A small Robust-ResNet-DW with 4-pixel patches."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [64, 128, 256, 512]
backbone = dict(
    type='TimmBackbone',
    model='robust_resnet_dw_small',
    dims=(16, 32, 64, 128),
    depths=(2, 2, 4, 2),
    patch_size=4,
    kernel_size=7,
    strides=(4, 8, 16, 32),
)
neck = [
    dict(type='StagePyramid', in_channels=channels, in_strides=[4, 8, 16, 32], out_channels=64),
    dict(type='FPN', in_channels=[64, 64, 64, 64], out_channels=64, num_outs=4),
]
