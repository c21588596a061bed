"""CoAtNet-0 with timm's weights, whose relative positions are interpolated to each map's size. Its inputs are scaled
to -1 … 1."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [96, 192, 384, 768]
data_preprocessor = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
backbone = dict(
    type='TimmBackbone',
    model='coatnet_0_rw_224.sw_in1k',
    pretrained=True,
    sync_bn=True,
    drop_path_rate=0.2,
    strides=(4, 8, 16, 32),
)
neck = [
    dict(type='StagePyramid', in_channels=channels, in_strides=[4, 8, 16, 32]),
    dict(type='FPN', in_channels=[256, 256, 256, 256], out_channels=256, num_outs=5),
]
