"""The table of published scores, and what each config says about its target."""

from dataclasses import dataclass

from downstream_configs._table_.backbones import BACKBONES, Backbone
from downstream_configs._table_.recipes import METHODS, OWN, STUDENT, Recipe, config_name, configs

__all__ = ['PUBLISHED', 'Score', 'target']


@dataclass(frozen=True)
class Score:
    """A row of the table: what has been published for a config's recipe. Scores are as printed there, in percent.

    Attributes:
        box: mAP of boxes.
        mask: mAP of masks.
        miou: mIoU at a single scale.
        ms: mIoU over several scales, each also mirrored.
        source: Where.
        before: How the recipe differs, if it does, as the beginning of a sentence.
        note: What else to know, with the comma or semicolon that separates it from the source.
        also: Further scores and their sources, with the comma or semicolon before them.
        same: Whether the model is the config's; the metafile lists such results only.
    """

    box: str = ''
    mask: str = ''
    miou: str = ''
    ms: str = ''
    source: str = ''
    before: str = ''
    note: str = ''
    also: str = ''
    same: bool = True

    @property
    def words(self) -> str:
        """The scores and what they measure."""
        if self.miou:
            many = f', {self.ms} multi-scale with flipping' if self.ms else ''
            return self.one + many
        return f'{self.box} box / {self.mask} mask mAP' if self.mask else self.one

    @property
    def one(self) -> str:
        """The first score alone."""
        if self.miou:
            return f'{self.miou} mIoU' + (' single-scale' if self.ms else '')
        return f'{self.box} box mAP'

    @property
    def cited(self) -> str:
        """The source, and how the model there differs if it does."""
        return self.source + ('' if self.same else self.note)

    @property
    def metrics(self) -> dict[str, float]:
        """The scores by the names that OpenMMLab's metafiles have for them."""
        names = {'box AP': self.box, 'mask AP': self.mask, 'mIoU': self.miou, 'mIoU(ms+flip)': self.ms}
        return {name: float(score) for name, score in names.items() if score}


MMDET, MMSEG = 'mmdet 3.3.0, configs/', 'mmseg 1.2.2, configs/'
SWIN = 'Swin Transformer, ICCV 2021, table 2b'
DETECTRON2, GLUON = "ResNeSt's README, detectron2", "ResNeSt's README, GluonCV"
MMDET_RESNEST = f'{MMDET}resnest/metafile.yml'
STEM = "; there the stem is three 3 × 3 convolutions, here it is torchvision's 7 × 7"

# fmt: off
PUBLISHED = {
    'cascade-mask-rcnn_r50_fpn_1x_coco':
        Score('41.2', '35.9', source=f'{MMDET}cascade_rcnn/metafile.yml', note=', the same recipe'),
    'cascade-rcnn_r50_fpn_1x_coco':
        Score('40.3', source=f'{MMDET}cascade_rcnn/metafile.yml', note=', the same recipe'),
    'cascade-mask-rcnn_swin-t_fpn_1x_coco':
        Score('48.1', '41.7', source="Swin-Transformer-Object-Detection's README", same=False,
              before='nobody has published it with these heads; with those of the 3x config and its crops '),
    'cascade-mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco':
        Score('46.19', '39.55', source=DETECTRON2, also=f', 45.4 / 39.5 ({MMDET_RESNEST})'),
    'cascade-mask-rcnn_s101_fpn_syncbn-backbone+head_ms-1x_coco':
        Score('48.30', '41.56', source=DETECTRON2, also=f', 47.7 / 41.4 ({MMDET_RESNEST})'),
    'cascade-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco':
        Score('45.41', source=DETECTRON2, also=f', 44.5 ({MMDET_RESNEST})'),
    'cascade-rcnn_s101_fpn_syncbn-backbone+head_ms-1x_coco':
        Score('47.50', source=DETECTRON2, also=f', 46.8 ({MMDET_RESNEST})'),
    'cascade-mask-rcnn_r50_fpn_4conv1fc-giou_ms-crop-3x_coco': Score('46.3', '40.1', source=SWIN),
    'cascade-mask-rcnn_deit-s_sfp_4conv1fc-giou_ms-crop-3x_coco':
        Score('48.0', '41.4', source=SWIN, note=', with another pyramid of transposed convolutions', same=False),
    'cascade-mask-rcnn_swin-t_fpn_4conv1fc-giou_ms-crop-3x_coco':
        Score('50.5', '43.7', source=SWIN, note='; 50.4 / 43.7 in its repository'),
    'cascade-mask-rcnn_convnext-t_fpn_4conv1fc-giou_ms-crop-3x_coco':
        Score('50.4', '43.7', source="ConvNeXt's repository, object_detection/README.md",
              also=f', 50.3 / 43.6 ({MMDET}convnext/metafile.yml)'),

    'deeplabv3_r50-d8_160k_ade20k-512x512':
        Score(miou='42.66', ms='44.09', source=f'{MMSEG}deeplabv3/metafile.yaml', note=STEM),
    'deeplabv3_s50-d8_160k_ade20k-512x512': Score(miou='45.12', source=GLUON),
    'deeplabv3_s101-d8_160k_ade20k-512x512':
        Score(miou='45.71', ms='46.59', source=f'{MMSEG}resnest/metafile.yaml', also=f'; 46.91 ({GLUON})'),
    'deeplabv3plus_r50-d8_160k_ade20k-512x512':
        Score(miou='43.95', ms='44.93', source=f'{MMSEG}deeplabv3plus/metafile.yaml', note=STEM),
    'deeplabv3plus_s101-d8_160k_ade20k-512x512':
        Score(miou='46.47', ms='47.27', source=f'{MMSEG}resnest/metafile.yaml'),
    'upernet_swin-t_160k_ade20k-512x512':
        Score(miou='44.41', ms='45.79', source=f'{MMSEG}swin/metafile.yaml',
              note=', the same recipe; there each map has a layer norm'),
    'upernet_deit-s_160k_ade20k-512x512':
        Score(miou='43.82', ms='45.07', source=f'{MMSEG}vit/metafile.yaml',
              note=', with another pyramid from the same four maps', same=False),
}
# fmt: on


def target(recipe: Recipe, backbone: Backbone) -> str:
    """Say what a config aims at: a published score with its source, this project's own, or the nearest there is."""
    name, method = config_name(recipe, backbone), METHODS[recipe.method].label
    if name in PUBLISHED:
        score = PUBLISHED[name]
        return f'{score.before}{score.words} ({score.source}{score.note}){score.also}'
    if backbone.family == 'tiny':
        return _own_goal(recipe, backbone)
    if backbone.plain:
        plain = PUBLISHED.get(config_name(recipe, BACKBONES[backbone.plain]))
        if plain is not None:
            return f'nobody has published it; without {backbone.differs} {plain.words} ({plain.source})'
    masks = PUBLISHED.get(name.replace('cascade-rcnn_', 'cascade-mask-rcnn_'))
    if masks is not None and not masks.before:
        return f'nobody has published it without masks; with them {masks.one} ({masks.cited})'
    nearest, (_, other) = PUBLISHED[recipe.reference], configs()[recipe.reference]
    score = f'{nearest.box} box and {nearest.mask} mask mAP' if recipe.method == 'cascade-mask-rcnn' else nearest.one
    who = 'it' if other == backbone else other.label
    rest = recipe.otherwise.format(who=who, score=score, source=nearest.cited)
    return f'nobody has published {method} on {backbone.label}{rest}'


def _own_goal(recipe: Recipe, backbone: Backbone) -> str:
    """Say what a small model aims at: the small Robust-ResNet has a goal, the others are there to compare with it."""
    goal, source = recipe.goal
    if backbone.name == STUDENT:
        return f'{goal} ({source})'
    method = '' if METHODS[recipe.method].folder == 'cascade_rcnn' else 'DeepLabV3 on '
    has = f'aims at {goal}' if source == OWN else f'has {goal} ({source})'
    return f'none set; {method}the Robust-ResNet of this size {has}'
