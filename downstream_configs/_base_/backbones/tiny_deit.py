"""Four blocks of a DeiT: one map of stride 8, of which ViTDet's pyramid makes all levels."""
# Written by `make configs` from downstream_configs/_table_: change it there.

channels = [96]
backbone = dict(
    type='TimmBackbone',
    model='deit_tiny_patch16_224',
    embed_dim=96,
    depth=4,
    num_heads=3,
    patch_size=8,
    out_indices=(3,),
    strides=(8,),
)
neck = dict(type='SimpleFeaturePyramid', in_channels=96, in_stride=8, out_channels=64)
