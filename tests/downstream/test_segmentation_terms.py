"""Terms on the heads of segmenters, in small models of the embedded scenes."""

import copy

import pytest
import torch
from term_runs import SEGMENTERS, SIZE, build, connected, frozen, runs, segmentation_samples, values
from torch import nn

from distill.losses.dense.pixel import pixel_kl

SEGMENTATION = [
    dict(type='pixel_kl', on='logits', temperature=2.0),
    dict(type='cwd', on='logits', temperature=4.0),
    dict(type='dist', on='logits'),
    dict(type='skd_pairwise', on='head'),
    dict(type='cwd', on='head', temperature=1.0),
]


@pytest.fixture(scope='module')
def segmenters() -> dict[str, nn.Module]:
    return {name: build(path, seed=i) for i, (name, path) in enumerate(SEGMENTERS.items())}


def test_segmenters_lose_nothing_when_equal_and_learn_from_others(segmenters):
    student = segmenters['resnet'].eval()
    equal = frozen(copy.deepcopy(student))
    for found in values(SEGMENTATION, student, equal, segmentation_samples()):
        assert len(found) == 2
        assert max(value.item() for value in found.values()) == pytest.approx(0, abs=1e-5)
    # The head of a Swin with UPerNet has stride 4, ours stride 8.
    for name in ('robust-resnet-dw', 'upernet'):
        found = values(SEGMENTATION, student, frozen(segmenters[name]), segmentation_samples())
        assert min(value.item() for terms in found for value in terms.values()) > 1e-7
    found = values([dict(SEGMENTATION[0], auxiliary=0)], student, frozen(segmenters['upernet']), segmentation_samples())
    assert list(found[0]) == ['loss_pixel_kl_decode']


@pytest.mark.parametrize('amp', [False, True])
def test_gradients_of_segmentation_terms(segmenters, amp):
    student, teacher = segmenters['resnet'].train(), frozen(segmenters['robust-resnet-dw'])
    terms = connected(SEGMENTATION, student, teacher)
    passes = runs(student, teacher, terms, segmentation_samples(), amp=amp)
    for term, on in zip(terms, [config['on'] for config in SEGMENTATION], strict=True):
        student.zero_grad()
        sum(term(*passes).values()).backward(retain_graph=True)
        reached = {name for name, p in student.named_parameters() if p.grad is not None and p.grad.any()}
        assert all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)
        for head in ('decode_head', 'auxiliary_head'):
            assert (f'{head}.conv_seg.weight' in reached) == (on == 'logits')
        assert any(name.startswith('backbone') for name in reached)
    assert all(p.grad is None for p in teacher.parameters())


def test_the_dropout_of_the_student_and_not_of_the_teacher(segmenters):
    student = segmenters['resnet'].eval()
    teacher = frozen(copy.deepcopy(student))
    student.decode_head.dropout.train()
    samples = segmentation_samples()
    configs = [dict(type='cwd', on=on, auxiliary=0) for on in ('head', 'logits')]
    before, after = (next(iter(found.values())).item() for found in values(configs, student, teacher, samples))
    assert before == pytest.approx(0, abs=1e-6)
    assert after > 1e-5


def test_ignored_pixels_do_not_count(segmenters):
    student, teacher = segmenters['resnet'].eval(), frozen(segmenters['robust-resnet-dw'])
    (term,) = terms = connected([dict(type='pixel_kl', on='logits', auxiliary=0)], student, teacher)
    half = segmentation_samples(ignored_columns=SIZE // 2)
    mine, its = runs(student, teacher, terms, half)
    logits = mine.calls['decode_head.conv_seg'][0].output, teacher.decode_head(its.features)
    right = (z[..., z.shape[-1] // 2 :] for z in logits)
    torch.testing.assert_close(term(mine, its)['loss_pixel_kl_decode'], pixel_kl(*right))
    term.ignored = True
    torch.testing.assert_close(term(mine, its)['loss_pixel_kl_decode'], pixel_kl(*logits))
    term.ignored = False
    mine.samples = segmentation_samples(ignored_columns=SIZE)
    assert term(mine, its)['loss_pixel_kl_decode'].item() == 0
