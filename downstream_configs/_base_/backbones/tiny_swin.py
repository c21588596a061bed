"""A Swin-T with a quarter of its channels and windows of 4."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [24, 48, 96, 192]
backbone = dict(
    type='TimmBackbone',
    model='swin_tiny_patch4_window7_224',
    embed_dim=24,
    depths=(2, 2, 2, 2),
    num_heads=(1, 2, 4, 8),
    window_size=4,
    strides=(4, 8, 16, 32),
)
neck = [
    dict(type='StagePyramid', in_channels=channels, in_strides=[4, 8, 16, 32], out_channels=64),
    dict(type='FPN', in_channels=[64, 64, 64, 64], out_channels=64, num_outs=4),
]
