"""The table of distillations: which config's student learns from which config's teacher by what; and their configs."""

from dataclasses import dataclass
from pathlib import Path

from distill.base.markdown import table
from distill.configs._table_.text import Code, Tall, assignment, config
from downstream_configs._table_.backbones import Backbone
from downstream_configs._table_.leaves import SOURCE
from downstream_configs._table_.recipes import METHODS, OWN, Recipe, configs
from downstream_configs._table_.scores import PUBLISHED

__all__ = ['FOLDER', 'LOSSES', 'ROWS', 'Distilled', 'distilled_config', 'distilled_list']

FOLDER = 'distilled'
"""The folder of `downstream_configs` with these configs."""
MARK = '<!-- What follows is written by `make configs`. -->\n'


@dataclass(frozen=True)
class Losses:
    """What a student is compared with its teacher by.

    Attributes:
        label: What a sentence calls it.
        terms: The terms, as a config has them.
    """

    label: str
    terms: tuple[dict, ...]


PKD = dict(type='pkd', on='neck', weight=6.0, strides=(4, 8, 16, 32))
LOSSES = {
    'pkd': Losses('PKD on the neck', (PKD,)),
    'pkd-roi': Losses('PKD on the neck, and the box heads on shared proposals', (PKD, dict(type='roi'))),
    'cwd': Losses('CWD on logits', (dict(type='cwd', on='logits', weight=3.0, temperature=4.0),)),
}


@dataclass(frozen=True)
class Distilled:
    """A row of the table.

    Attributes:
        student: Name of the config whose model learns.
        teacher: Name of the config that the teacher was trained with.
        losses: Key of `LOSSES`.

    Raises:
        ValueError: There is no such config, or no such losses.
    """

    student: str
    teacher: str
    losses: str

    def __post_init__(self):
        for name in (self.student, self.teacher):
            if name not in configs():
                raise ValueError(f'a row of distillations names {name!r}, which no row of the other tables gives')
        if self.losses not in LOSSES:
            raise ValueError(f'losses {self.losses!r} of {self.student} are unknown; choose from {", ".join(LOSSES)}')

    @property
    def name(self) -> str:
        """Name of the config: the student's, with the teacher's backbone and the losses."""
        return f'{self.student}_from-{configs()[self.teacher][1].name}_{self.losses}'

    @property
    def checkpoint(self) -> str:
        """Where the teacher's last checkpoint is, once it has been trained."""
        unit, number = configs()[self.teacher][0].length
        return f'work_dirs/{self.teacher}/{"epoch" if unit == "Epochs" else "iter"}_{number}.pth'


PAIRS = (
    ('s101', 'robust-resnet-dw-s'),
    ('s101', 'r50'),
    ('swin-t', 'robust-resnet-dw-s'),
    ('robust-resnet-dw-b', 'r50'),
    ('convnext-t', 'robust-resnet-dw-s'),
)
"""Backbones of teacher and student."""
# The recipe of each teacher's backbone that has a published score, where there is one.
DETECTING = {
    's101': '{}_s101_fpn_syncbn-backbone+head_ms-1x_coco',
    'swin-t': '{}_swin-t_fpn_4conv1fc-giou_ms-crop-3x_coco',
    'robust-resnet-dw-b': '{}_robust-resnet-dw-b_fpn_1x_coco',
    'convnext-t': '{}_convnext-t_fpn_4conv1fc-giou_ms-crop-3x_coco',
}
SEGMENTING = {
    's101': 'deeplabv3_s101-d8_160k_ade20k-512x512',
    'swin-t': 'upernet_swin-t_160k_ade20k-512x512',
    'robust-resnet-dw-b': 'deeplabv3_robust-resnet-dw-b-d8_160k_ade20k-512x512',
    'convnext-t': 'deeplabv3_convnext-t-d8_160k_ade20k-512x512',
}
BOXES, MASKS, SCENES = (
    'cascade-rcnn_{}_fpn_tiny_shapes-coco',
    'cascade-mask-rcnn_{}_fpn_tiny_shapes-coco',
    '_tiny_shapes',
)
SMALL = 'robust-resnet-dw'
ROWS = [
    *(
        Distilled(f'{method}_{student}_fpn_1x_coco', DETECTING[teacher].format(method), 'pkd')
        for method in ('cascade-rcnn', 'cascade-mask-rcnn')
        for teacher, student in PAIRS
    ),
    *(
        Distilled(f'deeplabv3_{student}-d8_160k_ade20k-512x512', SEGMENTING[teacher], 'cwd')
        for teacher, student in PAIRS
    ),
    # Small ones, on data that the project makes itself, on blood cells and on street scenes.
    *(
        Distilled(BOXES.format(SMALL), MASKS.format(teacher), losses)
        for teacher in ('resnest', 'swin')
        for losses in ('pkd', 'pkd-roi')
    ),
    Distilled(MASKS.format('resnet'), MASKS.format(SMALL), 'pkd'),
    Distilled(f'cascade-rcnn_{SMALL}_fpn_tiny_bccd', 'cascade-rcnn_resnest_fpn_tiny_bccd', 'pkd'),
    Distilled(f'deeplabv3_{SMALL}_tiny_shapes-ade20k', 'deeplabv3_resnest_tiny_shapes-ade20k', 'cwd'),
    Distilled(f'deeplabv3_{SMALL}_tiny_shapes-ade20k', 'upernet_swin_tiny_shapes-ade20k', 'cwd'),
    Distilled('deeplabv3_resnet_tiny_shapes-ade20k', f'deeplabv3_{SMALL}_tiny_shapes-ade20k', 'cwd'),
    Distilled(f'deeplabv3_{SMALL}_tiny_camvid', 'deeplabv3_resnest_tiny_camvid', 'cwd'),
]
GAINS = {
    'cascade_rcnn': 'Cascade R-CNN on ResNet-50 from 41.0 to 44.4 box mAP by FBKD (Zhang & Ma, ICLR 2021, figure 1); '
    "Faster R-CNN on ResNet-50 from 38.4 to 40.3 by PKD from ResNet-101 (mmrazor's configs)",
    'deeplabv3': "DeepLabV3 on ResNet-18 from 33.91 to 35.41 mIoU by CIRKD from ResNet-101 (CIRKD's README)",
}
"""Gains that are published for models of a kind, by the folder of the student's config."""


def distilled_config(row: Distilled, millions: dict[str, str]) -> str:
    """Write a config.

    Args:
        row: A row of the table.
        millions: Parameters by a config's name.
    """
    (recipe, backbone), (its_recipe, its_backbone) = configs()[row.student], configs()[row.teacher]
    detects = METHODS[recipe.method].folder == 'cascade_rcnn'
    teacher = Tall(config=row.teacher, checkpoint=row.checkpoint)
    model = Tall(
        _delete_=True,
        type='DenseDistiller',
        student=Code('_base_.model'),
        teacher=teacher,
        losses=[*LOSSES[row.losses].terms],
    )
    hooks = Tall(
        check_teacher=dict(type='CheckTeacherHook'),
        save_student=dict(type='SaveDenseStudentHook'),
        checkpoint=dict(save_best='coco/bbox_mAP' if detects else 'mIoU'),
    )
    unit, number = recipe.length
    header = [
        f'{METHODS[recipe.method].label} on {backbone.label} learns from {METHODS[its_recipe.method].label} on '
        f'{its_backbone.label}, {recipe.setting.title}: {LOSSES[row.losses].label}.',
        '\n'.join(recipe.setting.commands),
        f'The teacher is trained first, by {row.teacher}.{_weights(backbone)}',
        f'Hardware: {recipe.setting.hardware}. Cost: {millions[row.student]} M parameters and the '
        f"teacher's {millions[row.teacher]} M; {f'{number:,}'.replace(',', ' ')} {unit.lower()}, time not measured.\n"
        f'Target: {_target(row, recipe, its_recipe)}.',
    ]
    base = f'../{METHODS[recipe.method].folder}/{row.student}.py'
    return config(
        header, SOURCE, [f"_base_ = '{base}'", assignment('model', model), assignment('default_hooks', hooks)]
    )


def _weights(backbone: Backbone) -> str:
    """Where the weights of the student's backbone are given, if timm does not have them."""
    option = '--cfg-options model.student.backbone.checkpoint=PATH'
    return f" Weights of the student's backbone: {option}, {backbone.weights}." if backbone.weights else ''


def _target(row: Distilled, recipe: Recipe, its_recipe: Recipe) -> str:
    """What is aimed at: more than the student alone; and what is published for others."""
    alone = PUBLISHED.get(row.student)
    small = recipe.goal[0]
    if small:
        return f'a score above that of the student alone, {row.student} ({OWN})'
    own = f'; the student alone has {alone.words} ({alone.source})' if alone and not alone.before else ''
    its = PUBLISHED.get(row.teacher)
    theirs = f'; the teacher has {its.words} ({its.source})' if its and not its.before else ''
    gains = GAINS[METHODS[recipe.method].folder]
    return f'nobody has published this pair{own}{theirs}. Published gains of others: {gains}'


def distilled_list(text: str) -> str:
    """Write the list of configs into the folder's README.

    Args:
        text: The README. What stands above the mark stays as it is.

    Raises:
        ValueError: The README has no mark.
    """
    prose, mark, _ = text.partition(MARK)
    if not mark:
        raise ValueError(f'downstream_configs/{FOLDER}/README.md lacks the line {MARK!r}; put it above the list')
    rows = [
        (f'[{row.name}]({row.name}.py)', row.teacher, LOSSES[row.losses].label)
        for row in sorted(ROWS, key=lambda row: row.name)
    ]
    return f'{prose}{mark}\n{table(("config", "teacher", "by"), rows, "lll")}\n'


def distilled_files(root: Path, millions: dict[str, str]) -> dict[Path, str]:
    """Return all configs of the table, and the list of them.

    Args:
        root: The folder `downstream_configs`.
        millions: Parameters by a config's name.
    """
    readme = root / FOLDER / 'README.md'
    texts = {root / FOLDER / f'{row.name}.py': distilled_config(row, millions) for row in ROWS}
    return {**texts, readme: distilled_list(readme.read_text(encoding='utf-8'))}
