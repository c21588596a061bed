"""DeiT-S with its authors' weights: one map of stride 16, of which ViTDet's pyramid makes all levels."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [384]
backbone = dict(
    type='TimmBackbone',
    model='deit_small_patch16_224.fb_in1k',
    pretrained=True,
    drop_path_rate=0.1,
    out_indices=(11,),
    strides=(16,),
)
neck = dict(type='SimpleFeaturePyramid', in_channels=384, in_stride=16, out_strides=[4, 8, 16, 32, 64])
