"""Terms on the heads of detectors, in small models of the embedded scenes."""

import copy

import numpy as np
import pytest
import torch
from downstream_runs import ROOT
from mmengine.config import Config
from term_runs import (
    CLASSES,
    DETECTORS,
    SEGMENTERS,
    build,
    connected,
    detection_samples,
    frozen,
    images,
    runs,
    values,
)
from torch import Tensor, nn

from distill.downstream.dense_terms.base import Call, Pass
from distill.downstream.dense_terms.build import HEADS, build_terms

ROI = [
    dict(type='roi', masks=1.0, temperature=2.0),
    dict(type='roi', class_loss='dkd', boxes=0.0),
    dict(type='roi', class_loss='dist', boxes=0.0),
]
DETECTION = [dict(type='rpn'), *ROI, dict(type='crosskd_roi')]


@pytest.fixture(scope='module')
def detectors() -> dict[str, nn.Module]:
    return {name: build(path, seed=i) for i, (name, path) in enumerate(DETECTORS.items())}


def test_rpn_by_hand_on_a_map_of_2_by_2():
    """Two anchors a position; of eight the teacher takes the second one at the top right for an object (3/4)."""
    scores, deltas = torch.full((1, 2, 2, 2), -40.0), torch.full((1, 8, 2, 2), 100.0)
    scores[0, 1, 0, 1] = np.log(3)
    deltas[0, 4:, 0, 1] = torch.tensor([1.0, 2, 3, 4])
    nothing = [torch.full((1, 2, 2, 2), -40.0)], [torch.zeros(1, 8, 2, 2)]
    nothing[0][0][0, 1, 0, 1] = 0.0
    (term,) = build_terms([dict(type='rpn', objectness=2.0, boxes=3.0)])
    term.pairs = [(0, 0)]
    student, teacher = (Pass(None, torch.zeros(1, 3, 8, 8), []) for _ in range(2))
    student.calls['rpn_head'] = [Call((), nothing)]
    teacher.calls['rpn_head'] = [Call((), ([scores], [deltas]))]
    found = term(student, teacher)
    # ln 2 · |1/2 − 3/4| / (3/4), and the mean of 1 … 4.
    assert found['loss_rpn_objectness'].item() == pytest.approx(2 * np.log(2) / 3, rel=1e-5)
    assert found['loss_rpn_boxes'].item() == pytest.approx(3 * 2.5, rel=1e-5)


def test_nothing_is_lost_between_equal_detectors_and_something_between_others(detectors):
    student = detectors['resnet'].eval()
    teacher = frozen(copy.deepcopy(student))
    for found in values(DETECTION, student, teacher, detection_samples()):
        for name, value in found.items():
            assert value.item() == pytest.approx(0, abs=1e-5), name
    named = set()
    for found in values(DETECTION, student, frozen(detectors['robust-resnet-dw']), detection_samples()):
        named |= set(found)
        for name, value in found.items():
            assert value.item() > 1e-4, name
    assert {f'loss_roi_{part}_s{stage}' for part in ('classes', 'boxes', 'masks') for stage in range(3)} <= named


@pytest.mark.parametrize('amp', [False, True])
def test_gradients_reach_what_they_should(detectors, amp):
    student, teacher = detectors['resnet'].train(), frozen(detectors['robust-resnet-dw'])
    before = copy.deepcopy(teacher.state_dict())
    terms = connected(DETECTION, student, teacher)
    passes = runs(student, teacher, terms, detection_samples(), amp=amp)
    reached = []
    for term in terms:
        student.zero_grad()
        loss = sum(term(*passes).values())
        assert loss.isfinite()
        loss.backward(retain_graph=True)
        gradients = {name: p.grad for name, p in student.named_parameters() if p.grad is not None and p.grad.any()}
        assert all(gradient.isfinite().all() for gradient in gradients.values())
        reached.append({name.split('.')[0] for name in gradients})
    body = {'backbone', 'neck'}
    # Boxes are compared in the RoI heads only; CrossKD reads the student's maps by the teacher's head.
    assert reached == [body | {'rpn_head'}, *[body | {'roi_head'}] * 3, body]
    assert all(p.grad is None for p in teacher.parameters())
    after = teacher.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_crosskd_projects_maps_of_another_width_and_the_heads_of_a_stage_stay_apart(detectors):
    def narrow(model: Config) -> None:
        model.neck[-1].out_channels = model.rpn_head.in_channels = model.rpn_head.feat_channels = 32
        for part in ('bbox_roi_extractor', 'mask_roi_extractor'):
            model.roi_head[part].out_channels = 32
        for head in (*model.roi_head.bbox_head, model.roi_head.mask_head):
            head.in_channels = 32

    student, teacher = build(DETECTORS['resnet'], narrow).train(), frozen(detectors['robust-resnet-dw'])
    terms = connected([dict(type='crosskd_roi', stages=(1,)), dict(type='rpn'), dict(type='roi')], student, teacher)
    passes = runs(student, teacher, terms, detection_samples())
    found = terms[0](*passes)
    assert set(found) == {'loss_crosskd_roi_classes_s1', 'loss_crosskd_roi_boxes_s1'}
    sum(found.values()).backward()
    used = [adaptor.weight.grad is not None and adaptor.weight.grad.any() for adaptor in terms[0].adaptors.values()]
    assert len(used) == 4
    assert any(used)
    # Widths do not matter to what compares the outputs of heads.
    assert all(value.isfinite() for term in terms[1:] for value in term(*passes).values())


def permuted(detector: nn.Module, order: Tensor) -> nn.Module:
    """The same detector with its classes in another order: its class j is the class order[j]."""
    other = frozen(copy.deepcopy(detector))
    with_background = torch.cat([order, torch.tensor([CLASSES])])
    for head in other.roi_head.bbox_head:
        for name in ('weight', 'bias'):
            head.fc_cls.get_parameter(name).copy_(head.fc_cls.get_parameter(name)[with_background])
            deltas = head.fc_reg.get_parameter(name)
            deltas.copy_(deltas.unflatten(0, (CLASSES, 4))[order].flatten(0, 1))
    for head in other.roi_head.mask_head:
        for parameter in head.conv_logits.parameters():
            parameter.copy_(parameter[order])
    return other


def test_classes_are_paired_by_their_places():
    def boxes_of_classes(model: Config) -> None:
        for head in model.roi_head.bbox_head:
            head.reg_class_agnostic = False

    student = build(DETECTORS['resnet'], boxes_of_classes).eval()
    order = torch.tensor([3, 1, 0, 2, 9, 5, 4, 7, 6, 8])
    teacher = permuted(student, order)
    places = order.argsort()
    for found in values(ROI, student, teacher, detection_samples(), places=places):
        assert max(value.item() for value in found.values()) == pytest.approx(0, abs=1e-5)
    for found in values(ROI, student, teacher, detection_samples()):
        assert max(value.item() for value in found.values()) > 1e-4


def plain(model: Config) -> None:
    """A Mask R-CNN with the first head of a cascade."""
    model.type = 'MaskRCNN'
    roi = model.roi_head
    model.roi_head = dict(
        {name: roi[name] for name in ('bbox_roi_extractor', 'mask_roi_extractor', 'mask_head')},
        type='StandardRoIHead',
        bbox_head=dict(roi.bbox_head[0], reg_class_agnostic=False),
    )
    model.train_cfg.rcnn = dict(model.train_cfg.rcnn[0], mask_size=28)


def test_a_detector_without_a_cascade_learns_from_the_first_stage_of_one(detectors):
    student, teacher = build(DETECTORS['resnet'], plain).train(), frozen(detectors['robust-resnet-dw'])
    for found in values(DETECTION, student, teacher, detection_samples()):
        assert all(value > 0 and value.isfinite() for value in found.values())
        assert all('_s' not in name or name.endswith('_s0') for name in found)
    with pytest.raises(ValueError, match='compares stage 1; the student has 3 of them and the teacher 1'):
        connected([dict(type='roi')], detectors['resnet'], frozen(build(DETECTORS['resnet'], plain)))


def retina(model: Config) -> None:
    model.type = 'RetinaNet'
    anchors = dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[4, 8, 16, 32])
    model.bbox_head = dict(
        type='RetinaHead',
        num_classes=CLASSES,
        in_channels=64,
        feat_channels=64,
        stacked_convs=4,
        anchor_generator=anchors,
    )
    assigner = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0.0)
    model.train_cfg = dict(assigner=assigner, sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1)
    model.test_cfg = None
    del model.rpn_head, model.roi_head
    model.data_preprocessor.pad_mask = False


def test_a_detector_that_cannot_give_a_loss_is_refused(detectors):
    cascade, segmenter = detectors['resnet'], build(SEGMENTERS['resnet'])
    one_stage = build(DETECTORS['resnet'], retina)
    other_anchors = build(DETECTORS['resnet'], lambda m: m.rpn_head.anchor_generator.update(ratios=[1.0]))
    other_stds = build(
        DETECTORS['resnet'], lambda m: [h.bbox_coder.update(target_stds=[1.0] * 4) for h in m.roi_head.bbox_head]
    )
    fewer = build(DETECTORS['resnet'], lambda m: [h.update(num_classes=4) for h in m.roi_head.bbox_head])
    boxes_only = build(DETECTORS['resnet'], lambda m: m.roi_head.update(mask_head=None, mask_roi_extractor=None))
    for config, student, teacher, message in (
        (dict(type='roi'), one_stage, cascade, r'a roi_head .* the student \(RetinaNet\) has none; compare its maps'),
        (dict(type='crosskd_roi'), cascade, one_stage, r'the teacher \(RetinaNet\) has none'),
        (dict(type='rpn'), one_stage, cascade, 'needs a rpn_head of the kind RPNHead'),
        (dict(type='rpn'), segmenter, cascade, r'the student \(EncoderDecoder\) has none'),
        (dict(type='rpn', strides=(64,)), cascade, cascade, 'anchors of stride 64'),
        (dict(type='crosskd'), cascade, one_stage, 'needs a bbox_head of the kind RetinaHead'),
        (dict(type='crosskd', after=5), one_stage, one_stage, 'have 4 convolutions; choose from 1 … 4'),
        (dict(type='rpn'), cascade, other_anchors, 'those of stride 4 differ: 3 of the student and 1 of the teacher'),
        (dict(type='roi'), cascade, other_stds, 'box head of stage 0 of the student and of the teacher encode'),
        (dict(type='roi'), cascade, fewer, 'the student has 10 and the teacher 4; use crosskd_roi'),
        (dict(type='roi', masks=1.0), boxes_only, cascade, 'and the student .* has none; set masks=0'),
        (dict(type='roi', stages=(3,)), cascade, cascade, 'compares stage 3; .* set stages to some of 0, 1, 2'),
        (dict(type='pixel_kl', on='logits'), cascade, cascade, 'segmentation heads that end in conv_seg'),
        (dict(type='fgd', on='backbone'), segmenter, cascade, 'needs labelled boxes, which the student'),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            connected([config], student, frozen(copy.deepcopy(teacher)))
        assert '\n' not in str(caught.value)
    for config, message in (
        (dict(type='roi', class_loss='l2'), 'choose from kl, dist, dkd'),
        (dict(type='roi', classes=0, boxes=0), 'give factors of at least 0, one of them above it'),
        (dict(type='roi', mask=1.0), "no option 'mask'; choose from classes, boxes, masks"),
        (dict(type='fgd', on='logits'), "does not work on='logits'; choose from pkd, cwd"),
        (dict(type='pixel_kl', on='head'), "does not work on='head'"),
        (dict(type='pixel_kl'), "a map has none; set on='logits'"),
    ):
        with pytest.raises(ValueError, match=message):
            build_terms([config])


def test_crosskd_between_one_stage_detectors():
    def narrow(model: Config) -> None:
        retina(model)
        model.bbox_head.feat_channels = 32

    student, other = build(DETECTORS['resnet'], retina).eval(), frozen(build(DETECTORS['robust-resnet-dw'], retina, 1))
    plain_loss = {name: sum(v).item() for name, v in student.loss(images(), detection_samples()).items()}
    equal = frozen(copy.deepcopy(student))
    # Not 0 to the last digit: the deviation that a map is divided by is a little larger than the one it is given.
    of_equal, of_other = (
        values([dict(type='crosskd')], student, teacher, detection_samples())[0] for teacher in (equal, other)
    )
    assert all(of_equal[name] < 1e-3 < 0.01 * of_other[name] for name in of_other), (of_equal, of_other)
    assert {n: sum(v).item() for n, v in student.loss(images(), detection_samples()).items()} == plain_loss
    for change, amp in ((retina, False), (retina, True), (narrow, False)):
        student = build(DETECTORS['resnet'], change).train()
        (term,) = terms = connected([dict(type='crosskd', after=3)], student, other)
        passes = runs(student, other, terms, detection_samples(), amp=amp)
        found = term(*passes)
        assert all(value.isfinite() and value > 0 for value in found.values())
        sum(found.values()).backward()
        reached = {name for name, p in student.named_parameters() if p.grad is not None and p.grad.any()}
        assert {'bbox_head.cls_convs.2.conv.weight', 'bbox_head.reg_convs.2.conv.weight'} <= reached
        assert not [name for name in reached if name.startswith(('bbox_head.retina', 'bbox_head.cls_convs.3'))]
        assert any(name.startswith('backbone') for name in reached)
        assert len(term.adaptors) == (2 if change is narrow else 0)
        assert all(p.grad is None for p in other.parameters())


def test_every_loss_on_heads_is_in_the_documentation():
    text = (ROOT / 'docs' / 'dense_losses.md').read_text()
    assert not [name for name in HEADS if f'| `{name}` |' not in text]
