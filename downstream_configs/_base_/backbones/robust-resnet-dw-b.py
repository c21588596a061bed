"""Robust-ResNet-DW-B. Its 16-pixel patches make strides 16, 16, 16, 32; the pyramid wants 4, 8, 16, 32."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [512, 1024, 2048, 4096]
backbone = dict(
    type='TimmBackbone',
    model='robust_resnet_dw_base',
    # ImageNet weights: a student's student_best.pth, say; nobody has released any
    checkpoint=None,
    sync_bn=True,
    strides=(16, 16, 16, 32),
)
neck = [
    dict(type='StagePyramid', in_channels=channels, in_strides=[16, 16, 16, 32]),
    dict(type='FPN', in_channels=[256, 256, 256, 256], out_channels=256, num_outs=5),
]
