"""A student's model with a teacher beside it is the student's model: its losses, its random numbers, its weights."""

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from distilled_runs import LOSSES, TEACHERS, save_teacher
from downstream_runs import CONFIGS, FOLDER
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import nn

from backbones.openmmlab.layer_decay import LayerDecayOptimWrapperConstructor

# isort: split
import distill.downstream.register  # noqa: F401 - registers the model
from distill.downstream.student_config import student_weights

TASKS = ('det', 'seg')
SCOPES = {'det': 'mmdet', 'seg': 'mmseg'}


@pytest.fixture(scope='module')
def teachers(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('teachers')
    return {task: save_teacher(FOLDER / TEACHERS[task], folder / f'{task}.pth') for task in TASKS}


@pytest.fixture(autouse=True)
def first_step():
    """Other tests of this process may have left the number of a step."""
    MessageHub.get_current_instance().update_info('iter', 0)


def build(task: str, teacher: Path | None, losses: list[dict] | None = None, **more) -> nn.Module:
    """A student with all that draws random numbers, alone or with its teacher."""
    settings = Config.fromfile(FOLDER / CONFIGS[task], format_python_code=False).model
    settings.backbone.drop_path_rate = 0.3
    settings.update(more)
    if teacher is not None:
        settings = dict(
            type='DenseDistiller',
            student=settings,
            teacher=dict(config=str(FOLDER / TEACHERS[task]), checkpoint=str(teacher)),
            losses=LOSSES[task] if losses is None else losses,
        )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(SCOPES[task]):
        model = MODELS.build(settings)
        model.init_weights()
    return model.train()


def batch(task: str) -> dict:
    """Two images of different sizes as a loader gives them."""
    generator = torch.Generator().manual_seed(3)
    sizes = [(64, 48), (40, 64)] if task == 'det' else [(64, 64), (64, 64)]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]
    if task == 'det':
        from mmdet.structures import DetDataSample as Sample
    else:
        from mmseg.structures import SegDataSample as Sample
    samples = []
    for size in sizes:
        sample = Sample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
        if task == 'det':
            boxes = torch.tensor([[4.0, 6.0, 30.0, 34.0], [10.0, 2.0, 40.0, 20.0]])
            sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 4]))
            sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0, dtype=torch.long))
        else:
            labels = torch.randint(0, 5, (1, *size), generator=generator)
            sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def losses_of(model: nn.Module, task: str) -> tuple[dict, list]:
    """The losses of a step, and what the random generators give after it."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope(SCOPES[task]):
        found = model(**model.data_preprocessor(batch(task), True), mode='loss')
    found = {name: sum(value) if isinstance(value, list) else value for name, value in found.items()}
    return found, [random.random(), np.random.rand(), torch.rand(1).item()]


@pytest.mark.parametrize('task', TASKS)
def test_the_students_own_losses_are_those_that_it_has_alone(task, teachers):
    alone, distilled = build(task, None), build(task, teachers[task])
    assert isinstance(distilled, type(alone))
    own = student_weights(distilled.state_dict())
    assert own.keys() == alone.state_dict().keys()
    assert all(torch.equal(own[name], value) for name, value in alone.state_dict().items())
    plain, drawn = losses_of(alone, task)
    found, then = losses_of(distilled, task)
    assert {name: value.item() for name, value in found.items() if name in plain} == {
        name: value.item() for name, value in plain.items()
    }
    assert then == drawn
    terms = {name: value.item() for name, value in found.items() if name not in plain}
    assert list(terms) == [f'distill.loss_{config["type"]}' for config in LOSSES[task]]
    assert all(np.isfinite(value) and value > 0 for value in terms.values())
    sum(value for name, value in found.items() if 'loss' in name).backward()
    assert [name for name, p in distilled.named_parameters() if p.grad is None] == []


def test_what_the_terms_train_is_not_initialised_with_the_student(teachers):
    initial = dict(init_cfg=dict(type='Normal', layer='Conv2d', std=0.01))
    losses = [dict(type='l2', strides=(8,))]
    alone, distilled = build('det', None, **initial), build('det', teachers['det'], losses, **initial)
    own = student_weights(distilled.state_dict())
    assert [name for name, value in alone.state_dict().items() if not torch.equal(value, own[name])] == []
    assert distilled.distillation.terms[0].losses[0].adaptor.weight.std() > 0.05


@pytest.mark.parametrize('task', TASKS)
def test_the_teacher_stays_outside(task, teachers):
    model = build(task, teachers[task])
    teacher = model.distillation.teacher
    before = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found, _ = losses_of(model.train(), task)
    sum(value for name, value in found.items() if 'loss' in name).backward()
    optimizer.step()
    ids = {id(p) for p in teacher.network.parameters()}
    assert not ids & {id(p) for p in model.parameters()}
    assert not {id(m) for m in teacher.network.modules()} & {id(m) for m in model.modules()}
    assert not any(module.training for module in teacher.network.modules())
    assert all(torch.equal(before[name], value) for name, value in teacher.network.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in teacher.network.parameters())
    average = ExponentialMovingAverage(model)
    average.update_parameters(model)
    assert average.module.distillation.teacher is teacher
    assert not any(
        'teacher' in name or name.startswith('distillation.terms')
        for name in student_weights(average.module.state_dict())
    )
    model.double()
    assert next(teacher.network.parameters()).dtype == torch.float64
    assert copy.deepcopy(model).distillation.teacher is teacher


def test_layers_learn_at_the_rates_of_the_student_alone(teachers):
    settings = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1))
    rates = []
    for model in (build('det', None), build('det', teachers['det'])):
        made = LayerDecayOptimWrapperConstructor(settings, dict(layer_decay=0.5))(model)
        names = {id(p): name for name, p in model.named_parameters()}
        groups = made.optimizer.param_groups
        rates.append({names[id(p)]: (group['lr'], group['weight_decay']) for group in groups for p in group['params']})
    alone, distilled = rates
    assert len(set(alone.values())) > 8
    assert {name: rate for name, rate in distilled.items() if name in alone} == alone
    trained = {rate for name, rate in distilled.items() if name not in alone}
    assert trained == {(1.0, 0.1), (1.0, 0.0)}


def test_it_runs_in_mixed_precision(teachers):
    model = build('det', teachers['det'])
    with torch.autocast('cpu', torch.bfloat16):
        found, _ = losses_of(model, 'det')
    assert all(value.isfinite() and value.dtype == torch.float32 for k, value in found.items() if 'distill' in k)


def test_a_term_without_weight_is_left_out_and_the_teacher_does_not_run_for_none(teachers, monkeypatch):
    hub = MessageHub.get_current_instance()
    losses = [dict(type='l2', schedule=((0, 0.0), (10, 1.0))), dict(type='cwd', schedule=((5, 0.0), (10, 1.0)))]
    model = build('det', teachers['det'], losses)
    runs = []
    extract = model.distillation.teacher.network.extract_feat
    monkeypatch.setattr(
        model.distillation.teacher.network, 'extract_feat', lambda *given: runs.append(1) or extract(*given)
    )
    by_step = {}
    for step in (0, 4, 8, 10):
        hub.update_info('iter', step)
        found, _ = losses_of(model, 'det')
        by_step[step] = [found[f'distill.loss_{name}'].item() for name in ('l2', 'cwd')], len(runs)
    assert by_step[0] == ([0, 0], 0)
    full = by_step[10][0]
    assert by_step[4] == ([pytest.approx(0.4 * full[0]), 0], 1)
    assert by_step[8] == ([pytest.approx(0.8 * full[0]), pytest.approx(0.6 * full[1])], 2)


def test_a_mgd_mask_is_another_one_in_each_step(teachers):
    model = build('det', teachers['det'], [dict(type='mgd', strides=(8,), per_position=True)])
    values = []
    with torch.no_grad(), DefaultScope.overwrite_default_scope('mmdet'):
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            found = model(**model.data_preprocessor(batch('det'), True), mode='loss')
            values.append(found['distill.loss_mgd'].item())
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize(
    ('change', 'error', 'message'),
    [
        (dict(teacher=None), ValueError, r'model.teacher is None; give dict\(checkpoint'),
        (dict(student=None), ValueError, 'model.student is None; give the model of a config'),
        (dict(teacher=dict(config='cascade.py')), ValueError, 'model.teacher has no checkpoint, and random weights'),
        (dict(teacher=dict(checkpoint='no.pth')), FileNotFoundError, "teacher's checkpoint 'no.pth' does not exist"),
        (dict(teacher=dict(weights='no.pth')), ValueError, "model.teacher has no 'weights'; it takes checkpoint and"),
        (dict(losses=[dict(type='pkd', strides=(2,))]), ValueError, 'stride 2, which the neck of the student'),
    ],
)
def test_bad_settings_are_an_error_of_one_line(change, error, message, teachers):
    settings = dict(
        type='DenseDistiller',
        student=Config.fromfile(FOLDER / CONFIGS['det'], format_python_code=False).model,
        teacher=dict(config=str(FOLDER / TEACHERS['det']), checkpoint=str(teachers['det'])),
        losses=[dict(type='pkd')],
    )
    with DefaultScope.overwrite_default_scope('mmdet'), pytest.raises(error, match=message) as raised:
        MODELS.build({**settings, **change})
    assert '\n' not in str(raised.value)


def test_a_teacher_that_does_not_fit_is_an_error_of_one_line(teachers, tmp_path):
    def refuse(error: type, message: str, **teacher) -> None:
        settings = Config.fromfile(FOLDER / CONFIGS['det'], format_python_code=False).model
        config = dict(type='DenseDistiller', student=settings, teacher=teacher, losses=[dict(type='pkd')])
        with DefaultScope.overwrite_default_scope('mmdet'), pytest.raises(error, match=message) as raised:
            MODELS.build(config)
        assert '\n' not in str(raised.value)

    det, seg, own = (str(FOLDER / path) for path in (TEACHERS['det'], TEACHERS['seg'], CONFIGS['det']))
    refuse(
        ValueError,
        "the teacher's checkpoint .* lacks .* it is another model than",
        config=own,
        checkpoint=str(teachers['det']),
    )
    refuse(ValueError, "the teacher's checkpoint .* lacks", config=det, checkpoint=str(teachers['seg']))
    refuse(FileNotFoundError, "config 'no.py' does not exist", config='no.py', checkpoint=str(teachers['det']))
    refuse(ValueError, 'no config lies beside', checkpoint=str(teachers['det']))
    refuse(
        ValueError,
        "of necks and the teacher .EncoderDecoder. has none; give it on='backbone'",
        config=seg,
        checkpoint=str(teachers['seg']),
    )
    classifier = str(FOLDER.parent / 'distill/configs/shapes/deit-mini_shapes.py')
    refuse(ValueError, "is no detector's or segmenter's", config=classifier, checkpoint=str(teachers['det']))
    broken = tmp_path / 'broken.pth'
    broken.write_bytes(b'no checkpoint')
    refuse(ValueError, 'broken.pth', config=det, checkpoint=str(broken))
