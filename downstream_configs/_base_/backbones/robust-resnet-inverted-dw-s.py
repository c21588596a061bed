"""Robust-ResNet-Inverted-DW-S. Its 16-pixel patches make strides 16, 16, 16, 32; the pyramid wants 4, 8, 16, 32."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [96, 192, 384, 768]
backbone = dict(
    type='TimmBackbone',
    model='robust_resnet_inverted_dw_small',
    # ImageNet weights: the official release's, or a student's student_best.pth
    checkpoint=None,
    sync_bn=True,
    strides=(16, 16, 16, 32),
)
neck = [
    dict(type='StagePyramid', in_channels=channels, in_strides=[16, 16, 16, 32]),
    dict(type='FPN', in_channels=[256, 256, 256, 256], out_channels=256, num_outs=5),
]
