"""ResNet-50 with torchvision's weights."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [256, 512, 1024, 2048]
backbone = dict(
    type='TimmBackbone',
    model='resnet50.tv_in1k',
    pretrained=True,
    strides=(4, 8, 16, 32),
)
neck = dict(type='FPN', in_channels=channels, out_channels=256, num_outs=5)
