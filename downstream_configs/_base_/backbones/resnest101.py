"""ResNeSt-101 with its authors' weights; norms see the batches of all processes, in the pyramid too."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [256, 512, 1024, 2048]
backbone = dict(
    type='TimmBackbone',
    model='resnest101e.in1k',
    pretrained=True,
    sync_bn=True,
    strides=(4, 8, 16, 32),
)
neck = dict(type='FPN', in_channels=channels, out_channels=256, norm_cfg=dict(type='SyncBN'), num_outs=5)
