"""The table of foundation models that teach features, and how configs are written from it."""

from dataclasses import dataclass, field
from pathlib import Path

from distill.configs._table_.models import MODELS, ROBUST
from distill.configs._table_.text import Tall, assignment, config

__all__ = ['files']

ROOT = Path(__file__).parents[1] / 'foundation'
GRID = dict(on='grid', student_layer=-2, head='mlp')
RADIO = [dict(type='cosine', on='pooled', head='mlp'), dict(type='radio', **GRID)]
"""RADIO's losses: the direction of the summary, and of patches the mix of direction and difference, by heads that are
perceptrons. The student's stage of stride 16 is compared with the patches."""


@dataclass(frozen=True)
class Foundation:
    """A row of the table of teachers.

    Attributes:
        name: The word for the model in names of configs.
        key: Its name among the teachers of a run.
        label: What a sentence calls it.
        model: timm's name.
        pooling: How its embeddings are pooled; None for the model's own way.
        patch: What its grid is like at 224 px.
        terms: What to know about its weights.
        losses: What the student learns from it.
    """

    name: str
    key: str
    label: str
    model: str
    pooling: str | None
    patch: str
    terms: str = ''
    losses: list[dict] = field(default_factory=lambda: list(RADIO))

    def settings(self, **others) -> dict:
        """The teacher in a config."""
        pooling = {} if self.pooling is None else dict(pooling=self.pooling)
        comment = {f'# {self.terms}': None} if self.terms else {}
        named = dict(name=self.key, model=self.model, pretrained=True)
        return Tall({**comment, **named, **pooling, 'size': 224, **others, 'losses': list(self.losses)})


# fmt: off
TEACHERS = [
    Foundation('dinov2-s', 'dinov2', 'DINOv2 ViT-S/14', 'vit_small_patch14_dinov2.lvd142m', 'cls', '16 × 16'),
    Foundation('dinov3-s', 'dinov3', 'DINOv3 ViT-S/16', 'vit_small_patch16_dinov3.lvd1689m', 'cls', '14 × 14',
               "The weights come under Meta's DINOv3 licence."),
    Foundation('clip-b', 'clip', 'CLIP ViT-B/16', 'vit_base_patch16_clip_224.openai', 'cls', '14 × 14'),
    Foundation('siglip-b', 'siglip', 'SigLIP ViT-B/16', 'vit_base_patch16_siglip_224.webli', None, '14 × 14'),
]
# fmt: on
STUDENTS = ('robust-resnet-dw-s', 'robust-resnet-up-s', 'resnet50', 'convnext-t')
LAYER_NORM = ('convnext-t',)
"""Students with layer norms, which lightly-train decays more."""
SETS = {
    'imagenet': (
        'foundation_imagenet',
        'on ImageNet without labels',
        '100e',
        'torchrun --nproc_per_node=8 tools/train.py THIS_FILE --data-root data/imagenet --launcher pytorch --amp',
        '8 GPUs of 40 GB',
    ),
    'folder': (
        'foundation_folder',
        'on a folder of images',
        '200e',
        'python tools/train.py THIS_FILE --data-root FOLDER --amp',
        '1 GPU of 24 GB',
    ),
}
COST = "not measured here; the student's steps and the teacher's forward passes, or from a cache the former alone"
TARGET = 'none is published for this pair; k-NN and linear probe of the student beside those of its teacher.'
OFFLINE = """\
Without a network: --cfg-options model.teachers.0.checkpoint=FILE, which is timm's file of the weights."""


def files() -> dict[Path, str]:
    """Return the configs of all rows."""
    found = {}
    for data in SETS:
        for student in STUDENTS:
            for teacher in TEACHERS:
                found.update([_leaf(f'{teacher.name}_{student}', data, [teacher.settings()], teacher.label, student)])
        found.update([_several(data)])
    found.update([_shapes()])
    return found


def _leaf(name: str, data: str, teachers: list[dict], label: str, student: str) -> tuple[Path, str]:
    base, where, length, command, hardware = SETS[data]
    learner = MODELS[student].label
    header = [
        f'{learner} that learns the features of {label}, {where}.',
        f'{command}\n{OFFLINE}',
        f'Hardware: {hardware}. Cost: {COST}.\nTarget: {TARGET}',
    ]
    body = [
        assignment('_base_', f'../_base_/{base}.py'),
        '',
        assignment('model', Tall(student=dict(model=MODELS[student].model), teachers=teachers)),
    ]
    if student in LAYER_NORM:
        body.append(assignment('optim_wrapper', dict(optimizer=dict(weight_decay=0.04))))
    return ROOT / f'{name}_{length}_{data}.py', config(header, 'distill/configs/_table_', body)


def _several(data: str) -> tuple[Path, str]:
    """DINOv2, CLIP and a classifier at once. The latter two are shown half of each batch, as what they cost."""
    by_key = {teacher.key: teacher for teacher in TEACHERS}
    deit = MODELS['deit-s']
    soft = [dict(type='soft_target_kl', on='logits', head='linear')]
    classifier = Tall(name='classifier', model=deit.model, pretrained=True, num_classes=1000, share=0.5, losses=soft)
    teachers = [by_key['dinov2'].settings(), by_key['clip'].settings(share=0.5), classifier]
    return _leaf(
        'dinov2-s-clip-b-deit-s_robust-resnet-dw-s',
        data,
        teachers,
        'DINOv2 ViT-S/14 and CLIP ViT-B/16 and the predictions of DeiT-S',
        'robust-resnet-dw-s',
    )


def _shapes() -> tuple[Path, str]:
    """A teacher that is trained here, for a student of the embedded shapes."""
    student, teacher = MODELS['robust-resnet-tiny'], MODELS['deit-mini']
    header = [
        f'{student.label[0].upper()}{student.label[1:]} that learns the features of {teacher.label}, on the embedded '
        'shapes data without labels.',
        'python tools/train.py distill/configs/shapes/deit-mini_shapes.py\n'
        'python tools/train.py distill/configs/foundation/deit-mini_robust-resnet-tiny_features_shapes.py',
        'Hardware: one CPU core. Cost: not measured.\n'
        'Target: none set; k-NN and linear probe above those of the untrained student.',
    ]
    checkpoint = 'work_dirs/deit-mini_shapes/student_best.pth'
    losses = [dict(type='cosine', on='pooled', head='mlp'), dict(type='radio', **GRID)]
    made = dict(model=student.model, **{**ROBUST, 'depths': (1, 1, 3, 1)})
    body = [
        assignment('_base_', '../_base_/foundation_shapes.py'),
        '',
        assignment('model', Tall(student=made, teachers=[Tall(name='deit', checkpoint=checkpoint, losses=losses)])),
    ]
    name = 'deit-mini_robust-resnet-tiny_features_shapes'
    return ROOT / f'{name}.py', config(header, 'distill/configs/_table_', body)
