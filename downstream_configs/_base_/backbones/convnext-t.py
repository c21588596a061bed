"""ConvNeXt-T with its authors' weights. Its maps are not normalised: the projection before the pyramid does that."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [96, 192, 384, 768]
backbone = dict(
    type='TimmBackbone',
    model='convnext_tiny.fb_in1k',
    pretrained=True,
    drop_path_rate=0.4,
    strides=(4, 8, 16, 32),
)
neck = [
    dict(type='StagePyramid', in_channels=channels, in_strides=[4, 8, 16, 32]),
    dict(type='FPN', in_channels=[256, 256, 256, 256], out_channels=256, num_outs=5),
]
