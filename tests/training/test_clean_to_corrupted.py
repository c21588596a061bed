"""A student of corrupted copies beside a teacher of clean views: who sees what, the losses, and what is noted of it."""

import json
from math import log

import pytest
import torch
from small_runs import run_training

from distill.data.preprocessor import ViewPreprocessor
from distill.data.views import Views
from distill.losses.terms import build_losses
from distill.training.distiller import Distiller
from distill.training.feature_distiller import FeatureDistiller

CNN = dict(model='robust_resnet_dw_small', dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), kernel_size=3, num_classes=10)
TEACHER = dict(CNN, pretrained=False)
CORRUPT = 'train_dataloader.dataset.corrupt'


@pytest.fixture(scope='module')
def batches(shapes) -> dict[int, dict]:
    """A prepared batch of six views by the number of their copies."""
    found = {}
    for copies in (0, 1, 2):
        corrupt = dict(kinds=('prime',), copies=copies) if copies else None
        dataset = Views(str(shapes), 'train', transform=dict(input_size=32, is_training=True), corrupt=corrupt)
        data = torch.utils.data.default_collate([dataset[index, 0] for index in range(6)])
        found[copies] = ViewPreprocessor()(data, True)
    return found


def seen_by(network: torch.nn.Module) -> list[torch.Tensor]:
    """What a network is shown from now on."""
    shown = []
    network.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    return shown


@pytest.mark.parametrize('copies', [1, 2])
def test_the_teacher_sees_the_clean_views_and_the_student_their_copies(batches, copies):
    terms = [dict(type='cross_entropy'), dict(type='soft_target_kl', temperature=2.0)]
    model = Distiller(CNN, TEACHER, terms).eval()
    student, teacher = seen_by(model.student), seen_by(model.teacher.network)
    losses = model(**batches[copies], mode='loss')
    assert torch.equal(teacher[0], batches[0]['images'])
    assert torch.equal(student[0], batches[copies]['corrupted'])
    assert [len(shown) for shown in (*student, *teacher)] == [6 * copies, 6]
    # By hand: each copy is compared with its own view's label and answer.
    logits = model.student(batches[copies]['corrupted'])
    answers = model.teacher.network(batches[0]['images']).repeat(copies, 1)
    targets = batches[0]['targets'].repeat(copies)
    torch.testing.assert_close(losses['loss_cross_entropy'], torch.nn.functional.cross_entropy(logits, targets))
    expected = model.losses[1](logits, targets, answers)
    torch.testing.assert_close(losses['loss_soft_target_kl'], expected)
    assert torch.equal(model(**batches[copies], mode='tensor'), model.student(batches[0]['images']))


def test_feature_maps_are_compared_with_the_clean_views_maps(batches):
    model = Distiller(CNN, TEACHER, [dict(type='fitnet', layers=[(-1, -1)])]).eval()
    found = model(**batches[2], mode='loss')['loss_fitnet']
    halves = [dict(batches[2], corrupted=half) for half in batches[2]['corrupted'].chunk(2)]
    by_half = torch.stack([model(**half, mode='loss')['loss_fitnet'] for half in halves])
    torch.testing.assert_close(found, by_half.mean())


def test_a_student_of_features_sees_copies_and_its_teachers_clean_views(batches):
    model = {key: value for key, value in TEACHER.items() if key != 'num_classes'}
    losses = [dict(type='mse', head=None), dict(type='cosine', on='grid')]
    teachers = [
        dict(model, name='all', losses=losses, statistics=None),
        dict(model, name='half', losses=losses, statistics=None, share=0.5),
    ]
    torch.manual_seed(0)
    distiller = FeatureDistiller({k: v for k, v in CNN.items() if k != 'num_classes'}, teachers).eval()
    student, teacher = seen_by(distiller.student.stem), seen_by(distiller.teachers[0].network.stem)
    found = distiller(**batches[2], mode='loss')
    assert torch.equal(student[0], batches[2]['corrupted'])
    assert torch.equal(teacher[0], batches[0]['images'])
    # Every loss is a mean over images: that over both copies is the mean of those over each.
    halves = [dict(batches[2], corrupted=half) for half in batches[2]['corrupted'].chunk(2)]
    by_half = [distiller(**half, mode='loss') for half in halves]
    assert len(found) == 4
    for name, value in found.items():
        torch.testing.assert_close(value, (by_half[0][name] + by_half[1][name]) / 2)


def test_jsd_compares_views_and_copies_and_the_other_losses_see_copies_alone(batches):
    terms = [dict(type='jsd_cross_entropy', alpha=3.0), dict(type='hard_label')]
    model = Distiller(CNN, TEACHER, terms).eval()
    student = seen_by(model.student)
    losses = model(**batches[2], mode='loss')
    images, corrupted = batches[2]['images'], batches[2]['corrupted']
    assert torch.equal(student[0], torch.cat([images, corrupted]))
    splits = [model.student(part) for part in (images, *corrupted.chunk(2))]
    mean = torch.stack([split.softmax(1) for split in splits]).mean(0)
    divergence = sum((p * (p.log() - mean.log())).sum(1).mean() for p in (split.softmax(1) for split in splits)) / 3
    clean = torch.nn.functional.cross_entropy(splits[0], batches[2]['targets'])
    torch.testing.assert_close(losses['loss_jsd_cross_entropy'], clean + 3 * divergence)
    answers = model.teacher.network(images).argmax(1).repeat(2)
    expected = torch.nn.functional.cross_entropy(torch.cat(splits[1:]), answers)
    torch.testing.assert_close(losses['loss_hard_label'], expected)
    with pytest.raises(ValueError, match='loss_jsd_cross_entropy compares views with corrupted copies'):
        model(**batches[0], mode='loss')


def test_jsd_by_hand():
    (term,) = build_losses([dict(type='jsd_cross_entropy', alpha=1.0)])
    logits = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).log()
    # The mixture is even; both are ln 2 − H(3/4) from it, and the clean view is labelled 0.
    divergence = log(2) + 0.75 * log(0.75) + 0.25 * log(0.25)
    found = term(logits[1:], torch.tensor([0]), logits_of_all=logits)
    assert found.item() == pytest.approx(-log(0.75) + divergence, rel=1e-5)


def test_jsd_takes_labels_and_not_what_mixing_makes_of_them():
    preprocessor = dict(type='ViewPreprocessor', mixup=dict(mixup_alpha=0.8, num_classes=10))
    with pytest.raises(ValueError, match='takes labels, which mixing has made probabilities'):
        Distiller(CNN, losses=[dict(type='jsd_cross_entropy')], data_preprocessor=preprocessor)


def test_a_run_notes_what_its_student_saw_and_refuses_what_it_is_judged_by(shapes, tmp_path, capsys):
    options = [f"{CORRUPT}.kinds=['fog','prime']"]
    assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path / 'a', epochs=1, options=options) != 0
    message = capsys.readouterr().err
    assert "corruption 'fog' is one of the kinds that students are judged by" in message
    assert 'Traceback' not in message
    assert not (tmp_path / 'a' / 'student_best.json').exists()
    options += [f'{CORRUPT}.allow_benchmark=True']
    assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path / 'b', epochs=1, options=options) == 0
    record = json.loads((tmp_path / 'b' / 'student_best.json').read_text())
    assert record['seen_kinds'] == ['fog', 'prime']
    checkpoint = torch.load(tmp_path / 'b' / 'epoch_1.pth', weights_only=True)
    assert checkpoint['meta']['seen_kinds'] == ['fog', 'prime']
    # A run that goes on from these weights has seen what they have.
    options = [f'model.student.checkpoint={tmp_path / "b" / "student_best.pth"}', f"{CORRUPT}.kinds=['augmix']"]
    assert run_training('robust-resnet-tiny_shapes.py', shapes, tmp_path / 'c', epochs=1, options=options) == 0
    record = json.loads((tmp_path / 'c' / 'student_best.json').read_text())
    assert record['seen_kinds'] == ['fog', 'prime', 'augmix']
