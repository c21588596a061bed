"""The table of recipes: what is trained on what data for how long, and which backbones each recipe is meant for."""

from dataclasses import dataclass

from downstream_configs._table_.backbones import BACKBONES, Backbone

__all__ = ['METHODS', 'OWN', 'RECIPES', 'STUDENT', 'Method', 'Recipe', 'Setting', 'config_name', 'configs']


@dataclass(frozen=True)
class Method:
    """A detector or segmenter.

    Attributes:
        label: What a sentence and the metafile call it.
        folder: Where its configs are.
        architecture: What the metafile says that it consists of.
        title: Its paper.
        url: Address of its paper.
    """

    label: str
    folder: str
    architecture: tuple[str, ...]
    title: str
    url: str


CASCADE = ('Cascade R-CNN', 'RPN', 'RoIAlign')
METHODS = {
    'cascade-rcnn': Method(
        'Cascade R-CNN',
        'cascade_rcnn',
        CASCADE,
        'Cascade R-CNN: Delving into High Quality Object Detection',
        'https://arxiv.org/abs/1712.00726',
    ),
    'cascade-mask-rcnn': Method(
        'Cascade Mask R-CNN',
        'cascade_rcnn',
        CASCADE,
        'Cascade R-CNN: High Quality Object Detection and Instance Segmentation',
        'https://arxiv.org/abs/1906.09756',
    ),
    'deeplabv3': Method(
        'DeepLabV3',
        'deeplabv3',
        ('DeepLabV3',),
        'Rethinking Atrous Convolution for Semantic Image Segmentation',
        'https://arxiv.org/abs/1706.05587',
    ),
    'deeplabv3plus': Method(
        'DeepLabV3+',
        'deeplabv3',
        ('DeepLabV3+',),
        'Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation',
        'https://arxiv.org/abs/1802.02611',
    ),
    'upernet': Method(
        'UPerNet',
        'deeplabv3',
        ('UPerNet',),
        'Unified Perceptual Parsing for Scene Understanding',
        'https://arxiv.org/abs/1807.10221',
    ),
}


@dataclass(frozen=True)
class Setting:
    """Data and machine of several recipes.

    Attributes:
        data: What the metafile calls the data.
        title: What a header calls the data.
        hardware: What the recipes are meant for.
        commands: How to train. Backbones add options to the last line.
        batch: What a measured step is over; nothing has been measured without.
    """

    data: str
    title: str
    hardware: str
    commands: tuple[str, ...]
    batch: str = ''


TRAIN = 'python tools/train.py THIS_FILE'
TORCHRUN = 'torchrun --nproc_per_node={} tools/train.py THIS_FILE --launcher pytorch'
CORES = '2 CPU cores'
OWN = "this project's own"
# The small backbone that has goals of its own, and that the demo's students are loaded into.
STUDENT = 'robust-resnet-dw'
COCO = Setting('COCO', 'COCO', '8 GPUs, 2 images each', (TORCHRUN.format(8),))
ADE20K = Setting('ADE20K', 'ADE20K', '4 GPUs, 4 images each', (TORCHRUN.format(4),))
COCO_LIKE = Setting(
    'embedded COCO-like scenes',
    'the embedded COCO-like scenes',
    CORES,
    ('python tools/make_data.py data/shapes --sets coco', TRAIN),
    '8 images',
)
ADE20K_LIKE = Setting(
    'embedded ADE20K-like scenes',
    'the embedded ADE20K-like scenes',
    CORES,
    ('python tools/make_data.py data/shapes --sets ade20k', TRAIN),
    '8 crops',
)
BCCD = Setting(
    'BCCD',
    'BCCD blood cells (3 classes, 640 × 480) at half size',
    CORES,
    (f'{TRAIN} --data-root PATH_OF_bccd_coco',),
    '2 images',
)
CAMVID = Setting(
    'CamVid',
    'CamVid street scenes (11 classes, 480 × 360) at half size',
    CORES,
    (f'{TRAIN} --data-root PATH_OF_camvid_ade',),
    '4 crops',
)


@dataclass(frozen=True)
class Recipe:
    """A row of the table.

    Attributes:
        key: The word by which rows of backbones mean this recipe, and others that differ in masks or heads only.
        method: Key of `METHODS`.
        name: Names of the configs, with places for the backbone and its neck.
        setting: Data and machine.
        schedules: Families that the recipe is meant for, and the file of `_base_/schedules` that each takes.
        model: File of `_base_/models`.
        dataset: File of `_base_/datasets`.
        length: Unit of the schedules, and how many of it they have.
        title: What a header says about the schedule.
        amp: Families whose command asks for mixed precision, unless it names a checkpoint.
        stride: Output stride of a dilated backbone; UPerNet takes backbones that cannot be dilated.
        only: Names of the only backbones, where one suffices.
        unless: Names of backbones that have a recipe of their own.
        lines: Last lines of the configs.
        goal: The score that a small model aims at, and where it comes from.
        otherwise: What the target says where nobody has published a score: with places for method, backbone, and
            the score and source of ``reference``.
        reference: Name of the config whose published score is nearest.
    """

    key: str
    method: str
    name: str
    setting: Setting
    schedules: dict[str, str]
    model: str
    dataset: str
    length: tuple[str, int]
    title: str = ''
    amp: tuple[str, ...] = ()
    stride: int | None = None
    only: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    lines: str = ''
    goal: tuple[str, str] = ('', '')
    otherwise: str = ''
    reference: str = ''

    def is_meant_for(self, backbone: Backbone) -> bool:
        """Return whether the recipe has a config for this backbone."""
        if backbone.name in self.unless or (self.only and backbone.name not in self.only):
            return False
        detects = METHODS[self.method].folder == 'cascade_rcnn'
        return backbone.family in self.schedules and (detects or backbone.dilates == (self.stride is not None))


# Full-size detectors.
ONE_X = dict(
    key='1x',
    setting=COCO,
    schedules=dict(resnet='schedule_1x', adamw='schedule_1x_adamw'),
    length=('Epochs', 12),
    title='1x',
    amp=('adamw',),
    otherwise=' with these heads; {who} has {score} with its own 1x recipe ({source})',
)
RESNEST_ONE_X = dict(
    key='ms-1x',
    setting=COCO,
    schedules=dict(resnest='schedule_1x'),
    length=('Epochs', 12),
    title='1x at six sizes: the recipe of the ResNeSt paper',
    otherwise=' with this recipe; {who} has {score} with it ({source})',
)
THREE_X = dict(
    key='3x',
    setting=COCO,
    schedules=dict(resnet='schedule_3x_adamw', resnest='schedule_3x_adamw', adamw='schedule_3x_adamw'),
    length=('Epochs', 36),
    title='3x with large multi-scale crops',
    amp=('resnet', 'resnest', 'adamw'),
    reference='cascade-mask-rcnn_r50_fpn_4conv1fc-giou_ms-crop-3x_coco',
)
# Small detectors: a few minutes on CPU cores.
DET_TINY = dict(schedules=dict(tiny='det_tiny'), length=('Epochs', 8))
# Full-size segmenters.
SEG = dict(setting=ADE20K, dataset='ade20k', length=('Iterations', 160000), title='160 000 iterations')
DILATED = dict(
    **SEG,
    schedules=dict(resnet='schedule_160k', resnest='schedule_160k', adamw='schedule_160k_adamw'),
    reference='deeplabv3_r50-d8_160k_ade20k-512x512',
)
# Small segmenters.
SEG_TINY = dict(
    schedules=dict(tiny='seg_tiny'),
    length=('Iterations', 1000),
    lines='default_hooks = dict(checkpoint=dict(interval=200))',
)
SCENES = dict(**SEG_TINY, key='scenes', setting=ADE20K_LIKE, dataset='shapes_segmentation', goal=('mIoU ≥ 0.50', OWN))
# Small crops of scenes: three shapes or so, as many as a step of larger ones learns from in the same time.
SMALL_CROPS = """\
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            *_base_.train_pipeline[:4],
            dict(type='RandomCrop', crop_size=(64, 64)),
            *_base_.train_pipeline[5:],
        ]
    )
)
model.update(data_preprocessor=dict(size=(64, 64)))
default_hooks = dict(checkpoint=dict(interval=200))"""
TAUGHT_SCENES = {
    **SCENES,
    'schedules': dict(tiny='seg_tiny_taught'),
    'length': ('Iterations', 1000),
    # Maps of 8 × 8: two dilations see all of it, and a step takes four fifths of the time.
    'lines': SMALL_CROPS + "\nmodel['decode_head'].update(dilations=(1, 3))",
}
STREETS = dict(
    **SEG_TINY,
    key='camvid',
    setting=CAMVID,
    dataset='camvid_segmentation',
    goal=('mIoU 0.41 on a CIFAR-10 backbone', 'docs/real_small.md'),
)

# fmt: off
RECIPES = [
    # What is trained, names of configs, model and data in _base_; then what is special.
    Recipe(method='cascade-mask-rcnn', name='cascade-mask-rcnn_{backbone}_{neck}_1x_coco',
           model='cascade-mask-rcnn_fpn', dataset='coco_instance',
           reference='cascade-mask-rcnn_r50_fpn_1x_coco', **ONE_X),
    Recipe(method='cascade-rcnn', name='cascade-rcnn_{backbone}_{neck}_1x_coco',
           model='cascade-rcnn_fpn', dataset='coco_detection',
           reference='cascade-rcnn_r50_fpn_1x_coco', **ONE_X),
    Recipe(method='cascade-mask-rcnn', name='cascade-mask-rcnn_{backbone}_{neck}_syncbn-backbone+head_ms-1x_coco',
           model='cascade-mask-rcnn_fpn_4conv1fc', dataset='coco_instance_ms',
           reference='cascade-mask-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco', **RESNEST_ONE_X),
    Recipe(method='cascade-rcnn', name='cascade-rcnn_{backbone}_{neck}_syncbn-backbone+head_ms-1x_coco',
           model='cascade-rcnn_fpn_4conv1fc', dataset='coco_detection_ms',
           reference='cascade-rcnn_s50_fpn_syncbn-backbone+head_ms-1x_coco', **RESNEST_ONE_X),
    Recipe(method='cascade-mask-rcnn', name='cascade-mask-rcnn_{backbone}_{neck}_4conv1fc-giou_ms-crop-3x_coco',
           model='cascade-mask-rcnn_fpn_4conv1fc-giou', dataset='coco_instance_ms-crop',
           otherwise=' with this recipe; {who} has {score} with it ({source})', **THREE_X),
    Recipe(method='cascade-rcnn', name='cascade-rcnn_{backbone}_{neck}_4conv1fc-giou_ms-crop-3x_coco',
           model='cascade-rcnn_fpn_4conv1fc-giou', dataset='coco_detection_ms-crop',
           otherwise=' with this recipe; with masks {who} has {score} ({source})', **THREE_X),

    Recipe('mask', 'cascade-mask-rcnn', 'cascade-mask-rcnn_{backbone}_{neck}_tiny_shapes-coco', COCO_LIKE,
           model='cascade-mask-rcnn_tiny', dataset='shapes_instance',
           goal=('box and mask mAP ≥ 0.30', OWN), **DET_TINY),
    Recipe('box', 'cascade-rcnn', 'cascade-rcnn_{backbone}_{neck}_tiny_shapes-coco', COCO_LIKE,
           model='cascade-rcnn_tiny', dataset='shapes_detection', goal=('box mAP ≥ 0.30', OWN),
           only=(STUDENT,), schedules=dict(tiny='det_tiny_taught'), length=('Epochs', 4),
           lines='model.update(train_cfg=dict(rpn_proposal=dict(nms_pre=150, max_per_img=100)))'),
    Recipe('bccd', 'cascade-rcnn', 'cascade-rcnn_{backbone}_{neck}_tiny_bccd', BCCD,
           model='cascade-rcnn_tiny_bccd', dataset='bccd_detection',
           goal=('box mAP@50 0.87 from scratch', 'docs/real_small.md'), **DET_TINY),

    Recipe('d8', 'deeplabv3', 'deeplabv3_{backbone}-d8_160k_ade20k-512x512', model='deeplabv3', stride=8,
           otherwise=' at output stride 8; {who} has {score} ({source})', **DILATED),
    Recipe('d16', 'deeplabv3', 'deeplabv3_{backbone}-d16_160k_ade20k-512x512', model='deeplabv3_d16', stride=16,
           otherwise=' at output stride 16; at 8 {who} has {score} ({source})', **DILATED),
    Recipe('d8', 'deeplabv3plus', 'deeplabv3plus_{backbone}-d8_160k_ade20k-512x512', model='deeplabv3plus', stride=8,
           otherwise=' at output stride 8; {who} has {score} ({source})',
           **{**DILATED, 'reference': 'deeplabv3plus_r50-d8_160k_ade20k-512x512'}),
    Recipe('upernet', 'upernet', 'upernet_{backbone}_160k_ade20k-512x512', model='upernet',
           schedules=dict(adamw='schedule_160k_adamw'), amp=('adamw',),
           lines='optim_wrapper = dict(optimizer=dict(lr=6e-5, weight_decay=0.01))',
           otherwise='; {who} has {score} ({source})', reference='upernet_swin-t_160k_ade20k-512x512', **SEG),

    Recipe(method='deeplabv3', name='deeplabv3_{backbone}_tiny_shapes-ade20k', model='deeplabv3_tiny', stride=8,
           unless=(STUDENT,), **SCENES),
    Recipe(method='deeplabv3', name='deeplabv3_{backbone}_tiny_shapes-ade20k', model='deeplabv3_tiny', stride=8,
           only=(STUDENT,), **TAUGHT_SCENES),
    Recipe(method='upernet', name='upernet_{backbone}_tiny_shapes-ade20k', model='upernet_tiny', **SCENES),
    Recipe(method='deeplabv3plus', name='deeplabv3plus_{backbone}_tiny_shapes-ade20k', model='deeplabv3plus_tiny',
           stride=8, only=('resnet',), **{**SCENES, 'key': 'plus'}),
    Recipe(method='deeplabv3', name='deeplabv3_{backbone}_tiny_camvid', model='deeplabv3_tiny_camvid', stride=8,
           **STREETS),
    Recipe(method='upernet', name='upernet_{backbone}_tiny_camvid', model='upernet_tiny_camvid', **STREETS),
]
# fmt: on


def config_name(recipe: Recipe, backbone: Backbone) -> str:
    """Return the name of the config that a recipe has for a backbone; 'sfp' is ViTDet's simple feature pyramid."""
    return recipe.name.format(backbone=backbone.name, neck='sfp' if backbone.blocks else 'fpn')


def configs() -> dict[str, tuple[Recipe, Backbone]]:
    """Return all configs by their names: each recipe with each backbone that it is meant for."""
    pairs = [(recipe, row) for recipe in RECIPES for row in BACKBONES.values() if recipe.is_meant_for(row)]
    return dict(sorted((config_name(*pair), pair) for pair in pairs))
