"""What every teacher must do, and what is particular to a live one and to several as one."""

import copy
import json
from collections.abc import Callable

import pytest
import torch
from small_teacher import NAME, TEACHER
from torch import nn

from backbones.checkpoint import build_model, save_model
from backbones.record import ModelRecord
from distill.base.files import to_plain
from distill.data.batch import ViewBatch
from distill.data.preprocessor import ViewPreprocessor
from distill.teachers.build import build_teacher
from distill.teachers.cached import CachedTeacher
from distill.teachers.ensemble import Ensemble
from distill.teachers.live import LiveTeacher
from distill.teachers.protocol import Prediction, Teacher

LIVE = dict(model=NAME, pretrained=False, **TEACHER)
# Each kind of teacher: its config, of the folders of the caches, and whether it is exact, live and has feature maps.
KINDS: dict[str, tuple[Callable, tuple[bool, bool, bool]]] = {
    'live': (lambda caches: LIVE, (True, True, True)),
    'several': (lambda caches: [LIVE, dict(LIVE, weight=2.0)], (True, True, False)),
    'cached': (lambda caches: dict(cache=caches['fp16']), (True, False, False)),
    'cached in part': (lambda caches: dict(cache=caches['top3']), (False, False, False)),
    'several, some cached': (lambda caches: [LIVE, dict(cache=caches['top3'])], (False, False, False)),
}


@pytest.fixture
def views(run_parts) -> ViewBatch:
    """Four views of the training set."""
    dataset, sampler, preprocessor = run_parts
    keys = torch.tensor(list(sampler)[:4])
    images = torch.stack([dataset[tuple(key)][0] for key in keys.tolist()])
    return preprocessor.view_batch(preprocessor((images, keys[:, 0]))['images'], keys)


@pytest.mark.parametrize('kind', KINDS)
def test_every_teacher_answers_copies_as_itself_and_stays_out_of_the_students_model(kind, caches, views, run_parts):
    config, (exact, live, gives_maps) = KINDS[kind]
    teacher = build_teacher(config(caches))
    assert isinstance(teacher, Teacher)
    assert not isinstance(teacher, nn.Module)
    assert (teacher.num_classes, teacher.exact, teacher.live) == (10, exact, live)
    assert json.loads(json.dumps(to_plain(teacher.source), default=str))
    assert copy.deepcopy([teacher])[0] is teacher

    teacher.check_run(*run_parts)
    teacher.apply(lambda tensor: tensor)
    prediction = teacher(views)
    assert (prediction.logits.shape, prediction.maps) == ((4, 10), [])
    assert prediction.logits.isfinite().all()
    assert not prediction.logits.requires_grad

    channels = teacher.layer_channels()
    assert bool(channels) == gives_maps
    if gives_maps:
        maps = teacher(views, [1, 0]).maps
        assert [x.shape[1] for x in maps] == [channels[1], channels[0]]
    else:
        with pytest.raises(ValueError, match=r'layers \(0,\)'):
            teacher(views, [0])
    if not live:
        with pytest.raises(ValueError, match=r'has no prediction for images without their keys; drop model'):
            teacher(ViewPreprocessor().view_batch(views.images))


@pytest.mark.parametrize('config', ['deit', [], [LIVE, 'deit'], [NAME]])
def test_what_is_no_teacher_is_refused(config):
    with pytest.raises(ValueError, match=r"^model\.teacher is .*; give a dict such as dict\(checkpoint='FILE'\)"):
        build_teacher(config)


def test_live_teacher_sees_the_students_view_in_its_own_normalisation():
    teacher, student = LiveTeacher(**LIVE), ViewPreprocessor()
    teacher.mean, teacher.std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    own = ViewPreprocessor(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    data = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), torch.arange(4)
    logits = teacher(student.view_batch(student(data)['images'])).logits
    torch.testing.assert_close(logits, teacher.network(own(data)['images']), atol=1e-5, rtol=1e-4)


def test_live_teacher_compares_normalisations_once_a_run_and_again_when_they_move(monkeypatch):
    """A comparison of values on a device makes the processor wait for the device."""
    comparisons, equal = [], torch.equal
    monkeypatch.setattr(torch, 'equal', lambda *tensors: comparisons.append(1) or equal(*tensors))
    teacher, student = LiveTeacher(**LIVE), ViewPreprocessor()
    images = torch.randn(2, 3, 32, 32)
    for _ in range(3):
        teacher(student.view_batch(images))
    assert len(comparisons) == 2  # mean and standard deviation
    student.double()
    teacher.apply(lambda tensor: tensor.double())
    assert teacher(student.view_batch(images.double())).logits.dtype == torch.float64
    assert len(comparisons) > 2


def test_live_teacher_from_a_checkpoint_is_shown_what_it_was_trained_with(tmp_path):
    record = ModelRecord(NAME, TEACHER, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    save_model(tmp_path / 'teacher.pth', build_model(**LIVE), record)
    teacher = LiveTeacher(checkpoint=tmp_path / 'teacher.pth')
    assert (teacher.mean, teacher.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert LiveTeacher(**LIVE).mean == tuple(teacher.network.pretrained_cfg['mean'])


class Constant(Teacher):
    """A teacher with one answer to every view."""

    num_classes, exact, live, source = 2, True, True, {}

    def __init__(self, *odds: float):
        self.logits = torch.tensor([odds]).log()

    def __call__(self, views, layers=()):
        return Prediction(self.logits)


def test_several_teachers_are_the_weighted_mean_of_their_probabilities():
    # (1/2, 1/2) once and (9/10, 1/10) three times: (3.2/4, 0.8/4). A constant on all logits changes nothing.
    teachers = Ensemble([Constant(1, 1), Constant(9 * 7, 1 * 7)], [1.0, 3.0])
    logits = teachers(ViewPreprocessor().view_batch(torch.zeros(1, 3, 2, 2))).logits
    torch.testing.assert_close(logits, torch.tensor([[0.8, 0.2]]).log())
    assert teachers.source == [dict(weight=0.25), dict(weight=0.75)]
    with pytest.raises(ValueError, match='teacher weight 0 is not above 0'):
        Ensemble([Constant(1, 1)], [0])


def test_a_cache_among_several_teachers_is_compared_with_the_run(caches, run_parts):
    dataset, sampler, preprocessor = run_parts
    teacher = build_teacher([LIVE, dict(cache=caches['fp16'])])
    assert isinstance(teacher.teachers[1], CachedTeacher)
    teacher.check_run(dataset, sampler, preprocessor)
    assert sampler.epochs == 2
    with pytest.raises(ValueError, match=r'batch.random_erasing was 0.5 and is 0'):
        teacher.check_run(dataset, sampler, ViewPreprocessor())
