"""Dense losses against values worked out by hand, and how they grow with the map and the batch."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill.losses.dense import DENSE_LOSSES, NEEDS, DenseLoss
from distill.losses.dense.context_pyramid import hcl
from distill.losses.dense.crosskd import align_scale, bins_kl, giou, quality_focal
from distill.losses.dense.factorised import FBKD
from distill.losses.dense.focal_global import FGD, box_masks
from distill.losses.dense.masked_generation import MGD
from distill.losses.dense.pearson import pkd
from distill.losses.dense.pixel import pixel_dist, pixel_kl
from distill.losses.dense.regions import mask_kl, objectness, roi_classes, roi_deltas, weighted_l1
from distill.losses.dense.structure import skd_pairwise, skd_patches, skd_pixel
from distill.losses.features import cwd

LN2, LN3 = math.log(2), math.log(3)


def maps(chs: int = 4, other_chs: int | None = None, size: int = 8, n: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(n, c, size, size, generator=generator) for c in (chs, other_chs or chs))


def kl(q: list[float], p: list[float]) -> float:
    return sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))


def test_pkd_by_hand():
    # (0, 1, 2) and (0, 2, 1) correlate with 1/2, on three positions: (1 − 1/2) · 2/3, whatever the scale.
    student, teacher = torch.tensor([[[[0.0, 1, 2]]]]), torch.tensor([[[[0.0, 2, 1]]]])
    assert pkd(student * 10 + 3, teacher / 5).item() == pytest.approx(1 / 3, rel=1e-4)
    # The statistics are those of the batch, not of an image.
    assert pkd(student.view(3, 1, 1, 1), teacher.view(3, 1, 1, 1)).item() == pytest.approx(1 / 3, rel=1e-4)
    with pytest.raises(ValueError, match='two positions'):
        pkd(torch.ones(1, 2, 1, 1), torch.ones(1, 2, 1, 1))


def test_a_dead_channel_gets_no_gradient_from_pkd_and_the_others_do():
    student, teacher = maps()
    student[:, 1] = 0.3
    student.requires_grad_()
    loss = pkd(student, teacher)
    loss.backward()
    assert 0 < loss.item() < 2
    assert not student.grad[:, 1].any()
    assert 0 < student.grad.norm() < 1


def test_mgd_by_hand():
    # A generator that says 3 everywhere, and a teacher of 1: 2² at 8 positions, over two images.
    loss, teacher = MGD(1, 1, alpha=0.5, mask_ratio=0.5), torch.ones(2, 1, 2, 2)
    for parameter in loss.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(loss.generation[-1].bias, 3.0)
    assert loss(teacher, teacher).item() == pytest.approx(0.5 * 4 * 8 / 2)
    # Half of the positions are hidden, each in all channels.
    seen = []
    loss = MGD(4, 4, mask_ratio=0.5)
    loss.generation.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    loss(torch.ones(2, 4, 32, 32), torch.ones(2, 4, 32, 32))
    assert torch.equal(seen[0], seen[0][:, :1].expand_as(seen[0]))
    assert 0.4 < seen[0].mean() < 0.6


def test_masks_of_boxes_by_hand():
    # Stride 8: the first box covers the cells 1 … 2, the second all, and is counted with the row and column beyond.
    small, whole = [8.0, 8.0, 15.0, 15.0], [0.0, 0.0, 31.0, 31.0]
    boxes = [torch.tensor([small, whole]), torch.tensor([small]), torch.zeros(0, 4)]
    inside, outside = box_masks(boxes, (4, 4), (32, 32), torch.zeros(1))
    expected = torch.full((4, 4), 1 / 25)
    expected[1:3, 1:3] = 1 / 4
    torch.testing.assert_close(inside[0, 0], expected)
    assert not outside[0].any()
    assert inside[1].sum() == pytest.approx(1)
    torch.testing.assert_close(outside[1, 0], torch.where(inside[1, 0] > 0, 0.0, 1 / 12))
    assert not inside[2].any()
    torch.testing.assert_close(outside[2, 0], torch.full((4, 4), 1 / 16))
    # Boxes are in pixels of the padded batch: half as wide a map would put the box at half the column.
    inside, _ = box_masks([torch.tensor([[16.0, 0.0, 23.0, 7.0]])], (4, 8), (32, 64), torch.zeros(1))
    assert inside[0, 0].nonzero().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    # A box that begins left of the map does not wrap around.
    inside, _ = box_masks([torch.tensor([[-4.0, 0.0, 7.0, 7.0]])], (4, 4), (32, 32), torch.zeros(1))
    assert inside[0, 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_fgd_is_zero_at_an_equal_student_and_trains_both_contexts():
    student, _ = maps()
    loss = FGD(4, 4)
    boxes = [torch.tensor([[8.0, 8.0, 30.0, 30.0]]), torch.zeros(0, 4)]
    assert loss(student, student.clone(), boxes, (64, 64)).item() == 0
    x = student.clone().requires_grad_()
    loss(x, student + 1, boxes, (64, 64)).backward()
    assert x.grad.norm() > 0
    last = loss.student_context.transform[-1], loss.teacher_context.transform[-1]
    assert all(layer.weight.grad.norm() > 0 for layer in last)


def test_fbkd_has_a_gradient_of_zero_at_an_equal_student():
    student, _ = maps(chs=2)
    loss = FBKD(2, 2)
    with torch.no_grad():
        for layer in (loss.feature_adaptor, loss.relation_adaptor, loss.channel_adaptor, loss.spatial_adaptor):
            layer.weight.zero_()
            layer.bias.zero_()
        for layer in (loss.feature_adaptor, loss.relation_adaptor):
            layer.weight[:, :, 0, 0] = torch.eye(2)
        loss.channel_adaptor.weight.copy_(torch.eye(2))
        loss.spatial_adaptor.weight[0, 0, 1, 1] = 1
    x = student.clone().requires_grad_()
    value = loss(x, student)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-8)
    assert x.grad.isfinite().all()
    # A length is not divided by anything: a difference of 1 in each of n elements is √n.
    lengths = loss.lengths(student, student + 1)
    assert lengths[0].item() == pytest.approx(math.sqrt(student.numel()), rel=0.05)
    assert lengths[1].item() == pytest.approx(2, rel=1e-4)
    assert lengths[2].item() == pytest.approx(math.sqrt(student.numel() / 2), rel=1e-4)
    assert lengths[3].item() == pytest.approx(math.sqrt(student.numel()), rel=1e-4)


def test_affinities_by_hand():
    # Four regions: the student's all look alike, the teacher's top and bottom do not: 8 of 16 pairs differ by 1.
    student, teacher = torch.ones(1, 3, 2, 2), torch.zeros(1, 2, 2, 2)
    teacher[0, 0, 0], teacher[0, 1, 1] = 5.0, 2.0
    assert skd_pairwise(student, teacher).item() == pytest.approx(0.5)
    assert skd_patches(student, teacher, patch=1).item() == pytest.approx(0.5)
    # The length of a vector gets no gradient in the first form, so that a longer vector seems to help.
    for function, along in ((skd_pairwise, False), (skd_patches, True)):
        x = (torch.ones(1, 2, 2, 2) * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).requires_grad_()
        options = {'patch': 1} if along else {}
        function(x, teacher, **options).backward()
        radial = (x.grad * x).sum(dim=1)
        assert radial.abs().max() < 1e-6 if along else radial.abs().max() > 1e-3


def test_pixel_losses_by_hand():
    # Two images of one pixel. The student is undecided, the teacher is 3 : 1 and 1 : 1.
    student, teacher = torch.zeros(2, 2, 1, 1), torch.tensor([[LN3, 0.0], [0.0, 0.0]]).view(2, 2, 1, 1)
    divergence = kl([0.75, 0.25], [0.5, 0.5])
    assert pixel_kl(student, teacher).item() == pytest.approx(divergence / 2, rel=1e-5)
    assert skd_pixel(student, teacher).item() == pytest.approx(2 * LN2, rel=1e-5)
    keep = torch.tensor([True, False]).view(2, 1, 1)
    assert pixel_kl(student, teacher, keep=keep).item() == pytest.approx(divergence, rel=1e-5)
    x = student.clone().requires_grad_()
    nothing = pixel_kl(x, teacher, keep=torch.zeros(2, 1, 1, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0
    assert not x.grad.any()
    student, teacher = maps(chs=5)
    keep = torch.ones(2, 8, 8, dtype=torch.bool)
    keep[:, 4:] = False
    top = (z[:, :, :4] for z in (student, teacher))
    torch.testing.assert_close(pixel_dist(student, teacher, keep=keep), pixel_dist(*top))


def test_hcl_by_hand():
    assert hcl(torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)).item() == pytest.approx(1)
    # A checkerboard of ±1 differs in the map and not in its mean, whose weight is a half; 4 and 2 are left out.
    board = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]])
    assert hcl(torch.zeros(1, 1, 2, 2), board).item() == pytest.approx(1 / 1.5)


def test_parts_of_crosskd_by_hand():
    cross, teacher, ones = torch.zeros(2, 1), torch.tensor([[LN3], [0.0]]), torch.ones(2)
    # σ(0) = 1/2 against 3/4: cross entropy ln 2, focused by 1/4; the second agrees.
    assert quality_focal(cross, teacher, ones, 2.0).item() == pytest.approx(LN2 / 4 / 2, rel=1e-5)
    bins = torch.tensor([[LN3, 0.0]])
    divergence = kl([0.75, 0.25], [0.5, 0.5])
    assert bins_kl(torch.zeros(1, 2), bins, torch.tensor([0.5]), 2.0).item() == pytest.approx(divergence / 4, rel=1e-5)
    # Boxes of 2 × 2 with a gap of 2: union 8, hull 6 × 2.
    boxes = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[4.0, 0, 6, 2]])
    assert giou(*boxes, torch.ones(1), 1.0).item() == pytest.approx(1 + 4 / 12, rel=1e-5)
    student, other = maps()
    aligned = align_scale(student, other * 7 + 2)
    torch.testing.assert_close(aligned.mean(dim=(0, 2, 3)), (other * 7 + 2).mean(dim=(0, 2, 3)))
    torch.testing.assert_close(aligned.std(dim=(0, 2, 3)), other.std(dim=(0, 2, 3)) * 7)


def test_losses_on_proposals_by_hand():
    # A map of 2 × 2: an object at one of four anchors (3/4, the others 1/4), and a student that says 1/2 everywhere.
    teacher = torch.tensor([LN3, -LN3, -LN3, -LN3])
    assert objectness(torch.zeros(4), teacher).item() == pytest.approx(4 * LN2 / 4 / 1.5, rel=1e-5)
    assert objectness(teacher, teacher).item() == 0
    # The first box is off by 1 in one of four deltas, the second by 2 in all.
    off = torch.tensor([[1.0, 0, 0, 0], [2.0, 2, 2, 2]])
    assert weighted_l1(off, torch.zeros(2, 4), torch.tensor([0.75, 0.25])).item() == pytest.approx(0.75 / 4 + 0.5)
    # Two RoIs and two classes: the teacher says class 1 (weight 3/5), then class 0 (1/4), the rest is background.
    classes = torch.tensor([[0.2, 0.6, 0.2], [0.25, 0.15, 0.6]]).log()
    deltas, zeros = torch.zeros(2, 8), torch.zeros(2, 8)
    deltas[0, 4:], deltas[1, :4], deltas[0, :4] = 1.0, 3.0, 100.0
    expected = (0.6 * 1 + 0.25 * 3) / 0.85
    assert roi_deltas(deltas, zeros, classes).item() == pytest.approx(expected, rel=1e-5)
    # A head without classes is compared with the same class's deltas.
    shared = torch.stack([deltas[0, 4:], deltas[1, :4]])
    assert roi_deltas(zeros[:, :4], deltas, classes).item() == pytest.approx(expected, rel=1e-5)
    assert roi_deltas(shared, deltas, classes).item() == 0
    divergence = kl([0.75, 0.25], [0.5, 0.5])
    roi = torch.tensor([[LN3, 0.0], [0.0, 0.0]])
    assert roi_classes(torch.zeros(2, 2), roi, temperature=1.0).item() == pytest.approx(divergence / 2, rel=1e-5)
    mask = torch.tensor([[[LN3, 0.0]]])
    assert mask_kl(torch.zeros(1, 1, 2), mask).item() == pytest.approx(divergence / 2, rel=1e-5)
    for empty in (roi_classes(torch.zeros(0, 3), torch.zeros(0, 3)), mask_kl(*[torch.zeros(0, 7, 7)] * 2)):
        assert empty.item() == 0


def test_every_loss_is_in_the_documentation():
    text = (Path(__file__).parents[2] / 'docs' / 'dense_losses.md').read_text()
    assert not [name for name in DENSE_LOSSES if f'| `{name}` |' not in text]


def loss_of(type: str) -> DenseLoss:
    torch.manual_seed(0)
    # Nothing is drawn, and a patch is a cell: a finer map has the same patches more often.
    options = {'mgd': dict(mask_ratio=0.0), 'skd_patches': dict(patch=1)}
    return DenseLoss(type, 4, 4, **options.get(type, {})).train()


def value(loss: DenseLoss, student: Tensor, teacher: Tensor) -> float:
    boxes = [torch.tensor([[8.0, 8.0, 40.0, 40.0]])] * len(student)
    return loss(student, teacher, boxes, (64, 64)).item()


@pytest.mark.parametrize('type', DENSE_LOSSES)
def test_what_grows_with_the_resolution_and_what_with_the_batch(type):
    student, teacher = maps()
    once = value(loss_of(type), student, teacher)
    finer = value(loss_of(type), *(z.repeat_interleave(2, 2).repeat_interleave(2, 3) for z in (student, teacher)))
    assert (finer / once > 1.3) == NEEDS[type].grows
    twice = value(loss_of(type), *(torch.cat([z, z]) for z in (student, teacher)))
    assert twice / once == pytest.approx({'skd_pixel': 2, 'fbkd': math.sqrt(2)}.get(type, 1), rel=0.02)


def test_growth_of_a_tiled_map():
    """Tiled 2 × 2: CWD, PKD and the focal part of FGD stay, its attention grows by less than 4, its relation by 4."""
    student, teacher = maps(size=16)
    tiled = tuple(z.repeat(1, 1, 2, 2) for z in (student, teacher))
    for function in (cwd, pkd, skd_pixel, pixel_kl):
        assert function(*tiled).item() == pytest.approx(function(student, teacher).item(), rel=0.01)
    loss, boxes = FGD(4, 4), [torch.zeros(0, 4), torch.tensor([[0.0, 0.0, 500.0, 500.0]])]
    once, four = (loss.terms(*pair, boxes, (128, 128)) for pair in ((student, teacher), tiled))
    foreground, background, attention, relation = (b.item() / a.item() for a, b in zip(once, four, strict=True))
    assert background == pytest.approx(1, rel=1e-4)
    assert relation == pytest.approx(4, rel=1e-4)
    assert 3 < attention < 4
    assert foreground == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize('type', DENSE_LOSSES)
def test_half_precision_changes_nothing_but_the_inputs(type):
    student, teacher = (z.bfloat16() for z in maps())
    exact = value(loss_of(type), student.float(), teacher.float())
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert value(loss_of(type), student, teacher) == exact
    x = (1000 * student.float()).requires_grad_()
    loss_of(type)(x, 1000 * teacher, [torch.zeros(0, 4)] * 2, (64, 64)).backward()
    assert x.grad.isfinite().all()


def test_adaptors_and_what_is_refused():
    student, teacher = maps(chs=3, other_chs=4)
    for type, needs in NEEDS.items():
        if needs.adaptor == 'classes':
            with pytest.raises(ValueError, match='has 3 and the teacher 4'):
                DenseLoss(type, 3, 4)
            continue
        loss = DenseLoss(type, 3, 4)
        assert isinstance(loss.adaptor, torch.nn.Conv2d) == (needs.adaptor in ('widths', 'always'))
        assert value(loss, student, teacher) > 0
    assert isinstance(DenseLoss('l2', 4, 4).adaptor, torch.nn.Conv2d)
    student, teacher = maps()
    whole, each = (DenseLoss('mgd', 4, 4, per_position=per, mask_ratio=0.0) for per in (False, True))
    each.load_state_dict(whole.state_dict())
    assert value(each, student, teacher) == pytest.approx(value(whole, student, teacher) / 64, rel=1e-5)
    for wrong, message in (
        (dict(type='pdk'), "'pdk' is unknown; choose from pkd, cwd"),
        (dict(type='pkd', temperature=2), "no option 'temperature'; choose from resize_student, eps"),
        (dict(type='dist', keep=None), "no option 'keep'"),
        (dict(type='cwd', per_position=True), 'does not grow with the map; per_position=True is for mgd, fgd, fbkd'),
        (dict(type='mgd', mask='rows'), 'choose from positions, channels'),
        (dict(type='mgd', mask_ratio=1.0), 'share from 0'),
    ):
        with pytest.raises(ValueError, match=message):
            DenseLoss(student_chs=4, teacher_chs=4, **wrong)
