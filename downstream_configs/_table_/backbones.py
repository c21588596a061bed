"""The table of backbones: each row gives a fragment in `_base_/backbones`, and a config in every recipe meant for it.

Channels, strides and the mean and deviation of inputs stand in no row: `make configs` reads them off timm's model.
"""

from dataclasses import dataclass, field

__all__ = ['BACKBONES', 'FAMILIES', 'ROWS', 'Backbone', 'Family']


@dataclass(frozen=True)
class Family:
    """What the recipes do alike with several backbones.

    Attributes:
        detector: Arguments of the backbone in a full-size detector.
        segmenter: Arguments of the backbone in a full-size segmenter.
        fpn: Arguments of the pyramid, if it stands directly on the backbone's maps; otherwise a `StagePyramid` comes
            between them, which normalises the maps and brings them to strides 4, 8, 16 and 32.
        width: Channels of the pyramid.
        levels: Maps of the pyramid.
    """

    detector: dict = field(default_factory=dict)
    segmenter: dict = field(default_factory=dict)
    fpn: dict | None = None
    width: int = 256
    levels: int = 5


FAMILIES = {
    # As mmdet and mmseg train a ResNet: SGD, and in a detector the first stage and all norms' statistics frozen.
    'resnet': Family(detector=dict(frozen_stages=1, norm_eval=True), segmenter=dict(sync_bn=True), fpn={}),
    # As ResNeSt's paper does: SGD, and norms see the batches of all processes.
    'resnest': Family(detector=dict(frozen_stages=1), fpn=dict(norm_cfg=dict(type='SyncBN'))),
    # Trained with AdamW on ImageNet, and therefore also on COCO and ADE20K.
    'adamw': Family(),
    # Narrow enough for CPU cores.
    'tiny': Family(width=64, levels=4),
}


@dataclass(frozen=True)
class Backbone:
    """A row of the table.

    Attributes:
        name: The word for the backbone in names of configs.
        label: What a sentence calls it.
        family: Key of `FAMILIES`: which recipes are meant for the backbone, and what they do with it.
        model: timm's name; with a tag, timm's weights are taken. A variant has the plain backbone's.
        about: What the fragment's first lines say, with places for the label and the strides.
        options: Further arguments of `TimmBackbone`; of a variant, those that differ.
        fragment: Name of the fragment, if it is not the backbone's.
        plain: Name of the backbone that this one is a variant of: its fragment inherits.
        differs: What the variant has and the plain one has not, to say whose score is there to compare with.
        weights: Where ImageNet weights come from that timm does not have.
        dilates: Whether strides can be traded for dilation, as DeepLabV3 needs it. Other backbones have UPerNet.
        dense: What output stride 8 takes beside ``output_stride``.
        blocks: Blocks of a plain transformer whose maps UPerNet takes. A detector takes the last one's, and ViTDet's
            simple feature pyramid makes all levels of it.
        options_at: Arguments of the backbone in the configs of a recipe, by the recipe's key.
        lines_at: Last lines of the configs of a recipe, by the recipe's key.
        step_s: Measured seconds of a training step on two CPU cores, by the recipe's key.

    Raises:
        ValueError: There is no such family.
    """

    name: str
    label: str
    family: str
    model: str
    about: str = "{label} with its authors' weights."
    options: dict = field(default_factory=dict)
    fragment: str = ''
    plain: str = ''
    differs: str = ''
    weights: str = ''
    dilates: bool = True
    dense: dict = field(default_factory=dict)
    blocks: tuple[int, ...] = ()
    options_at: dict[str, dict] = field(default_factory=dict)
    lines_at: dict[str, str] = field(default_factory=dict)
    step_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise ValueError(f'family {self.family!r} of {self.name} is unknown; choose from {", ".join(FAMILIES)}')

    @property
    def file(self) -> str:
        """Name of the fragment."""
        return self.fragment or (f'tiny_{self.name}' if self.family == 'tiny' else self.name)


WEIGHTS = "the official release's, or a student's student_best.pth"
ROBUST = dict(
    about='{label}. Its 16-pixel patches make strides {strides}; the pyramid wants 4, 8, 16, 32.',
    options=dict(sync_bn=True),
    dense=dict(stem_stride=8),
)
RESNEST = "{label} with its authors' weights; norms see the batches of all processes, in the pyramid too."
NOT_NORMALISED = (
    "{label} with its authors' weights. Its maps are not normalised: the projection before the pyramid does that."
)
SMALL = dict(dims=(16, 32, 64, 128), depths=(2, 2, 4, 2), patch_size=4, kernel_size=7)
LAYER_DECAY = """\
optim_wrapper = dict(
    optimizer=dict(lr=2e-4),
    # The recipe's 0.7 is over 7 steps from heads to stem; timm's layers are 19 steps.
    paramwise_cfg=dict(layer_decay=0.7 ** (7 / 19)),
)"""


def steps(mask: float, bccd: float, scenes: float, camvid: float, **more: float) -> dict[str, float]:
    """Name the seconds of a step in the order in which the rows of small backbones have them."""
    return dict(mask=mask, bccd=bccd, scenes=scenes, camvid=camvid, **more)


# fmt: off
ROWS = [
    # The word in names, the words in sentences, family, timm's name; then what is special.
    Backbone('r50', 'ResNet-50', 'resnet', 'resnet50.tv_in1k', "{label} with torchvision's weights.",
             fragment='resnet50'),
    Backbone('s50', 'ResNeSt-50', 'resnest', 'resnest50d.in1k', RESNEST, dict(sync_bn=True), fragment='resnest50'),
    Backbone('s50-mdconv-c3-c5', 'ResNeSt-50 with deformable stages', 'resnest', '',
             'ResNeSt-50 whose stages 2 to 4 convolve deformably, with modulation (Zhu et al., "Deformable ConvNets '
             'v2").',
             dict(dcn_stages=(1, 2, 3)), fragment='resnest50-mdconv', plain='s50', differs='deformable convolutions'),
    Backbone('s101', 'ResNeSt-101', 'resnest', 'resnest101e.in1k', RESNEST, dict(sync_bn=True), fragment='resnest101'),
    Backbone('robust-resnet-dw-s', 'Robust-ResNet-DW-S', 'adamw', 'robust_resnet_dw_small', weights=WEIGHTS, **ROBUST),
    Backbone('robust-resnet-dw-b', 'Robust-ResNet-DW-B', 'adamw', 'robust_resnet_dw_base',
             weights="a student's student_best.pth, say; nobody has released any", **ROBUST),
    Backbone('robust-resnet-inverted-dw-s', 'Robust-ResNet-Inverted-DW-S', 'adamw', 'robust_resnet_inverted_dw_small',
             weights=WEIGHTS, **ROBUST),
    Backbone('robust-resnet-up-inverted-dw-s', 'Robust-ResNet-Up-Inverted-DW-S', 'adamw',
             'robust_resnet_up_inverted_dw_small', weights=WEIGHTS, **ROBUST),
    Backbone('robust-resnet-down-inverted-dw-s', 'Robust-ResNet-Down-Inverted-DW-S', 'adamw',
             'robust_resnet_down_inverted_dw_small', weights=WEIGHTS, **ROBUST),
    Backbone('convnext-t', 'ConvNeXt-T', 'adamw', 'convnext_tiny.fb_in1k', NOT_NORMALISED, dict(drop_path_rate=0.4),
             lines_at={'3x': LAYER_DECAY}),
    Backbone('swin-t', 'Swin-T', 'adamw', 'swin_tiny_patch4_window7_224.ms_in1k', NOT_NORMALISED,
             dict(drop_path_rate=0.2), dilates=False, options_at={'upernet': dict(drop_path_rate=0.3)}),
    Backbone('deit-s', 'DeiT-S', 'adamw', 'deit_small_patch16_224.fb_in1k',
             "{label} with its authors' weights: one map of stride {strides}, of which ViTDet's pyramid makes all "
             'levels.',
             dict(drop_path_rate=0.1), dilates=False, blocks=(2, 5, 8, 11)),
    Backbone('coatnet-0', 'CoAtNet-0', 'adamw', 'coatnet_0_rw_224.sw_in1k',
             "{label} with timm's weights, whose relative positions are interpolated to each map's size. "
             'Its inputs are scaled to -1 … 1.',
             dict(sync_bn=True, drop_path_rate=0.2), dilates=False),

    # Small ones. The seconds of a step: with masks, on blood cells, on scenes to segment, on CamVid.
    Backbone('resnet', 'a small ResNet', 'tiny', 'resnet18', "A quarter of ResNet-18's channels.",
             dict(channels=(16, 32, 64, 128)), step_s=steps(0.7, 0.4, 0.1, 0.2, plus=0.1)),
    Backbone('resnest', 'a small ResNeSt', 'tiny', 'resnest14d', "A quarter of ResNeSt-14's channels.",
             dict(channels=(16, 32, 64, 128), stem_width=16), step_s=steps(0.8, 0.4, 0.2, 0.3)),
    Backbone('resnest-mdconv', 'a small ResNeSt with deformable stages', 'tiny', '',
             'The small ResNeSt with deformable convolutions in its last two stages.', dict(dcn_stages=(2, 3)),
             plain='resnest', step_s=steps(1.0, 0.7, 0.2, 0.3)),
    Backbone('robust-resnet-dw', 'a small Robust-ResNet', 'tiny', 'robust_resnet_dw_small',
             'A small Robust-ResNet-DW with 4-pixel patches.', SMALL, step_s=steps(0.8, 0.5, 0.1, 0.3, box=0.4),
             # The student that learns the embedded shapes has fewer blocks.
             options_at={key: dict(depths=(1, 1, 3, 1)) for key in ('mask', 'box', 'scenes')}),
    Backbone('robust-resnet-inverted-dw', 'a small Robust-ResNet-Inverted', 'tiny', 'robust_resnet_inverted_dw_small',
             'A small Robust-ResNet-Inverted-DW with 4-pixel patches.', SMALL, step_s=steps(0.9, 0.5, 0.3, 0.5)),
    Backbone('robust-resnet-up-inverted-dw', 'a small Robust-ResNet-Up-Inverted', 'tiny',
             'robust_resnet_up_inverted_dw_small', 'A small Robust-ResNet-Up-Inverted-DW with 4-pixel patches.', SMALL,
             step_s=steps(0.8, 0.4, 0.1, 0.2)),
    Backbone('robust-resnet-down-inverted-dw', 'a small Robust-ResNet-Down-Inverted', 'tiny',
             'robust_resnet_down_inverted_dw_small',
             'A small Robust-ResNet-Down-Inverted-DW with 4-pixel patches; stages stride at their ends.', SMALL,
             step_s=steps(0.8, 0.4, 0.2, 0.3)),
    Backbone('convnext', 'a small ConvNeXt', 'tiny', 'convnext_tiny',
             'A shallow ConvNeXt-T with a sixth of its channels.',
             dict(dims=(16, 32, 64, 128), depths=(1, 1, 3, 1)), step_s=steps(0.7, 0.3, 0.1, 0.2)),
    Backbone('swin', 'a small Swin', 'tiny', 'swin_tiny_patch4_window7_224',
             'A Swin-T with a quarter of its channels and windows of 4.',
             dict(embed_dim=24, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4),
             dilates=False, step_s=steps(0.8, 0.3, 0.2, 0.3)),
    Backbone('deit', 'a small DeiT', 'tiny', 'deit_tiny_patch16_224',
             "Four blocks of a DeiT: one map of stride {strides}, of which ViTDet's pyramid makes all levels.",
             dict(embed_dim=96, depth=4, num_heads=3, patch_size=8),
             dilates=False, blocks=(0, 1, 2, 3), step_s=steps(1.0, 0.8, 0.2, 0.4)),
    Backbone('coatnet', 'a small CoAtNet', 'tiny', 'coatnet_0_rw_224',
             'A shallow CoAtNet-0 with a sixth of its channels.',
             dict(stem_width=16, embed_dim=(16, 32, 64, 128), depths=(1, 1, 2, 1)),
             dilates=False, step_s=steps(0.8, 0.3, 0.2, 0.3)),
]
# fmt: on
BACKBONES = {row.name: row for row in ROWS}
