"""Writes distillation configs: data and recipe from `_base_`, then teacher, student and losses."""

from pathlib import Path

from distill.configs._table_ import foundation
from distill.configs._table_.models import MODELS, Model
from distill.configs._table_.runs import RECIPES, RUNS, Run
from distill.configs._table_.text import Tall, assignment, config

__all__ = ['ROOT', 'files', 'leaf']

ROOT = Path(__file__).parents[1]
DATA = {'shapes': 'the embedded shapes data', 'cifar10': 'CIFAR-10 as class folders'}
CLASSES = 10
TRANSFORMER = """\
# A transformer wants a smaller learning rate and more epochs than the CNNs.
optim_wrapper = dict(optimizer=dict(lr={lr}))"""
TRANSFORMER_LR = {'shapes': '1.5e-3', 'cifar10': '7e-4'}
LAST_LR = {'deit': '5e-5', '': '6e-4'}
"""The rate at the end on the shapes, of transformers and of CNNs: the average of the weights does the rest."""
LENGTH = {
    'shapes': """\
max_epochs = {epochs}
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='TimmCosineLR', end=max_epochs, warmup=0.5, lr_min={lr_min}, convert_to_iter_based=True),
]""",
    'cifar10': """\
max_epochs = {epochs}
train_cfg = dict(max_epochs=max_epochs, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=1, end=max_epochs, convert_to_iter_based=True),
]""",
}
PATIENT = """\
max_epochs = {epochs}
train_cfg = dict(max_epochs=max_epochs, val_interval=10)
param_scheduler = [
    dict(
        type='TimmCosineLR',
        end=max_epochs,
        warmup=1,
        lr_min=1e-5,
        warmup_prefix=True,
        convert_to_iter_based=True,
    )
]"""
PATIENT_EPOCHS = {'shapes': 20, 'cifar10': 40}
MIXUP = dict(mixup_alpha=1.0, cutmix_alpha=0.0, label_smoothing=0.0, num_classes=CLASSES)


def files() -> dict[Path, str]:
    """Return the configs of all rows."""
    return {**{ROOT / run.data / f'{run.name}.py': leaf(run) for run in RUNS}, **foundation.files()}


def leaf(run: Run) -> str:
    """Write the config of a row."""
    base = f'../_base_/{RECIPES[run.recipe].base or run.data}.py'
    bases = base if RECIPES[run.recipe].base else [base, '../_base_/default_runtime.py']
    parts = _model(run)
    model = Tall(parts) if len(parts) > 1 else parts
    body = [assignment('_base_', bases), '', assignment('model', model), *_lines(run)]
    return config(_header(run), 'distill/configs/_table_', body)


def _header(run: Run) -> list[str]:
    small = run.data in DATA
    gpus = RECIPES[run.recipe].gpus
    if small:
        # The teacher's run comes first.
        runs = [*([_alone(run.data, run.teacher)] if run.teacher else []), run]
        commands = [f'python tools/train.py distill/configs/{row.data}/{row.name}.py' for row in runs]
    else:
        nodes = f'--nnodes={gpus // 8} ' if gpus > 8 else ''
        commands = [f'torchrun {nodes}--nproc_per_node=8 tools/train.py THIS_FILE --launcher pytorch --amp']
    hardware = run.hardware if small else f'{gpus} GPUs of {run.hardware}'
    return [_title(run), '\n'.join(commands), f'Hardware: {hardware}. Cost: {run.cost}.\nTarget: {run.target}.']


def _title(run: Run) -> str:
    """Say who learns what from whom, by which recipe or on which data."""
    recipe, student = RECIPES[run.recipe], MODELS[run.student]
    learner = student.label[0].upper() + student.label[1:]
    if not run.teacher:
        words = f'{learner} without a teacher'
    else:
        teacher = MODELS[run.teacher].label
        if student.token and run.data in DATA:
            words = f"{learner} whose distillation token learns {teacher}'s decisions"
        elif student.token:
            words = f"{learner} with a distillation token that learns {teacher}'s decisions"
        elif recipe.matching:
            words = f'{learner} that matches {teacher}' + (' as a function' if run.data in DATA else '')
        else:
            words = f'{learner} that learns from {teacher}'
    if recipe.sees:
        words = f'{words} and {recipe.sees}' if run.teacher else f'{learner} that {recipe.sees}, without a teacher'
    if run.data in DATA:
        return f'{words}, on {DATA[run.data]}.'
    whose = 'its own' if recipe.own == run.student else recipe.whose
    title = f'{whose} {recipe.title}' if whose else recipe.title
    soft = ' with soft targets' if run.teacher and not (student.token or recipe.matching) else ''
    size = f' at {student.train["input_size"]} px' if student.train else ''
    return f'{words}, {title}{soft}{size}.'


def _model(run: Run) -> dict:
    recipe, student = RECIPES[run.recipe], MODELS[run.student]
    options = {**student.options, **recipe.student}
    if run.data in DATA:
        options.update(student.differs.get(run.data, {}), num_classes=CLASSES)
    parts = dict(student=dict(model=student.model, **options))
    if run.teacher:
        parts = {**_teacher(run), **parts}
    losses = _losses(run)
    if losses:
        parts['losses'] = losses
    if recipe.matching and run.data in DATA:
        parts['data_preprocessor'] = dict(mixup=MIXUP)
    if student.mean_std is not None:
        values = (student.mean_std,) * 3
        parts['data_preprocessor'] = dict(mean=values, std=values)
    return parts


def _teacher(run: Run) -> dict:
    teacher: Model = MODELS[run.teacher]
    comment = {f'# {teacher.about}': None} if teacher.about else {}
    if teacher.pretrained:
        return {**comment, 'teacher': dict(model=teacher.model, pretrained=True)}
    trained = _alone(run.data, run.teacher)
    return dict(teacher=dict(checkpoint=f'work_dirs/{trained.name}/student_best.pth'))


def _alone(data: str, model: str) -> Run:
    """The run that trains a model without a teacher, on images as they are."""
    rows = [row for row in RUNS if (row.data, row.student, row.teacher) == (data, model, '')]
    (run,) = [row for row in rows if not RECIPES[row.recipe].corrupt]
    return run


def _losses(run: Run) -> list[dict]:
    """The losses, where they are not the ones of `_base_`."""
    recipe = RECIPES[run.recipe]
    if not run.teacher:
        return list(recipe.alone)
    soft = dict(type='soft_target_kl', weight=0.5, temperature=1.0)
    if recipe.matching:
        return [dict(type='soft_target_kl', temperature=1.0)] if run.data in DATA else []
    smoothing = {} if recipe.smoothing is None else dict(label_smoothing=recipe.smoothing)
    second = dict(type='hard_label', weight=0.5) if MODELS[run.student].token else soft
    return [dict(type='cross_entropy', weight=0.5, **smoothing), second]


def _lines(run: Run) -> list[str]:
    """What follows the model: images of another size, another schedule."""
    student = MODELS[run.student]
    lines = []
    if student.train:
        for loader, transform in (('train', student.train), ('val', student.val)):
            lines.append(assignment(f'{loader}_dataloader', dict(dataset=dict(transform=transform))))
        lines.append('test_dataloader = val_dataloader')
    if RECIPES[run.recipe].corrupt:
        lines += ['', assignment('train_dataloader', dict(dataset=dict(corrupt=RECIPES[run.recipe].corrupt)))]
    if run.data in DATA and not RECIPES[run.recipe].matching:
        lr_min = LAST_LR['deit' if student.model.startswith('deit') else '']
        if student.model.startswith('deit'):
            lines += ['', TRANSFORMER.format(lr=TRANSFORMER_LR[run.data])]
        if run.data in student.epochs:
            lines += [
                *([] if student.model.startswith('deit') else ['']),
                LENGTH[run.data].format(epochs=student.epochs[run.data], lr_min=lr_min),
            ]
    if run.data in DATA and RECIPES[run.recipe].matching:
        lines += ['', PATIENT.replace('{epochs}', str(PATIENT_EPOCHS[run.data]))]
    return lines + ([run.lines] if run.lines else [])
