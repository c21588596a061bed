"""Losses against values worked out by hand."""

import math
from math import exp, log, sqrt

import pytest
import torch

from distill.losses.features import attention_transfer, cwd, fitnet, rkd, same_size
from distill.losses.logits import cross_entropy, dist, dkd, hard_label, soft_target_kl
from distill.losses.terms import WeightedLoss, build_losses


def logs(*rows) -> torch.Tensor:
    """Logits whose softmax is proportional to these numbers."""
    return torch.tensor(rows, dtype=torch.float32).log()


def kl(q: list[float], p: list[float]) -> float:
    return sum(b * log(b / a) for a, b in zip(p, q, strict=True))


def test_soft_target_kl_by_hand():
    # One image, two classes: teacher (3/4, 1/4), student (1/2, 1/2).
    teacher, student = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert soft_target_kl(student, teacher).item() == pytest.approx(expected, rel=1e-6)
    # At T = 2 the teacher's odds are √3, and the result is multiplied by 4.
    q = math.sqrt(3) / (1 + math.sqrt(3))
    expected = 4 * (q * math.log(q / 0.5) + (1 - q) * math.log((1 - q) / 0.5))
    assert soft_target_kl(student, teacher, temperature=2.0).item() == pytest.approx(expected, rel=1e-6)


def test_soft_target_kl_is_a_mean_over_images_not_over_classes():
    student, teacher = torch.randn(3, 7), torch.randn(3, 7)
    each = [soft_target_kl(student[i : i + 1], teacher[i : i + 1], 3.0) for i in range(3)]
    torch.testing.assert_close(soft_target_kl(student, teacher, 3.0), torch.stack(each).mean())


def test_soft_target_kl_has_no_gradient_at_the_teacher_and_needs_none_from_it():
    teacher = torch.randn(4, 5)
    student = teacher.clone().requires_grad_()
    loss = soft_target_kl(student, teacher, 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(student.grad, torch.zeros(4, 5))


def test_standardised_logits_by_hand():
    # (3, 1, −1) has mean 1 and standard deviation √((4 + 0 + 4)/2) = 2, so that it becomes (1, 0, −1);
    # (0, 0, 6): mean 2, deviation √((4 + 4 + 16)/2) = √12, it becomes (−1, −1, 2)/√3. T = 2 halves both.
    student, teacher = torch.tensor([[3.0, 1.0, -1.0]]), torch.tensor([[0.0, 0.0, 6.0]])
    p = [exp(0.5), 1.0, exp(-0.5)]
    q = [exp(-0.5 / sqrt(3)), exp(-0.5 / sqrt(3)), exp(1 / sqrt(3))]
    expected = 4 * kl([v / sum(q) for v in q], [v / sum(p) for v in p])
    assert soft_target_kl(student, teacher, 2.0, standardise=True).item() == pytest.approx(expected, rel=1e-5)
    # It makes the loss blind to the scale of either, for every loss that takes it.
    for loss in (soft_target_kl, lambda *z, **options: dkd(*z, torch.tensor([1]), **options)):
        scaled = loss(student * 5 + 1, teacher * 0.1, temperature=2.0, standardise=True)
        torch.testing.assert_close(scaled, loss(student, teacher, temperature=2.0, standardise=True))


def test_hard_label_and_cross_entropy_by_hand():
    student = torch.tensor([[math.log(2.0), 0.0, 0.0]])
    teacher = torch.tensor([[0.0, 1.0, 0.5]])
    assert hard_label(student, teacher).item() == pytest.approx(math.log(4), rel=1e-6)
    assert cross_entropy(student, torch.tensor([0])).item() == pytest.approx(math.log(2), rel=1e-6)
    # Smoothing 0.3 leaves 0.8 for the label and 0.1 for each other class.
    expected = 0.8 * math.log(2) + 0.2 * math.log(4)
    assert cross_entropy(student, torch.tensor([0]), label_smoothing=0.3).item() == pytest.approx(expected, rel=1e-6)
    mixed = torch.tensor([[0.5, 0.5, 0.0]])
    assert cross_entropy(student, mixed).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4), rel=1e-6)


def test_dkd_by_hand():
    # Target is class 1. Teacher (1, 6, 3)/10: target 0.6, rest 0.4, among the rest (1/4, 3/4).
    # Student (2, 4, 2)/8: target 0.5, rest 0.5, among the rest (1/2, 1/2).
    student, teacher, target = logs([2, 4, 2]), logs([1, 6, 3]), torch.tensor([1])
    of_target, of_rest = kl([0.6, 0.4], [0.5, 0.5]), kl([0.25, 0.75], [0.5, 0.5])
    value = dkd(student, teacher, target, alpha=2.0, beta=3.0, temperature=1.0)
    assert value.item() == pytest.approx(2 * of_target + 3 * of_rest, rel=1e-5)
    # The identity that gave it its name: KL = TCKD + (1 − q_target) NCKD, here with 0.4.
    whole = dkd(student, teacher, target, alpha=1.0, beta=0.4, temperature=1.0)
    torch.testing.assert_close(whole, soft_target_kl(student, teacher))
    # T = 2 takes the square root of the odds: teacher (1, √6, √3), student (1, √2, 1).
    q, p = [1, sqrt(6), sqrt(3)], [1, sqrt(2), 1]
    binary = kl([q[1] / sum(q), 1 - q[1] / sum(q)], [p[1] / sum(p), 1 - p[1] / sum(p)])
    others = kl([1 / (1 + sqrt(3)), sqrt(3) / (1 + sqrt(3))], [0.5, 0.5])
    value = dkd(student, teacher, target, alpha=1.0, beta=1.0, temperature=2.0)
    assert value.item() == pytest.approx(4 * (binary + others), rel=1e-5)
    mixed = torch.tensor([[0.3, 0.5, 0.2]])
    torch.testing.assert_close(dkd(student, teacher, mixed), dkd(student, teacher, target))


def test_dkd_is_finite_where_a_network_is_certain():
    student = torch.tensor([[90.0, -90.0, 0.0], [-90.0, 90.0, 0.0]], requires_grad=True)
    loss = dkd(student, torch.tensor([[200.0, -50.0, 0.0], [200.0, -50.0, 0.0]]), torch.tensor([0, 0]), temperature=1.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_dist_by_hand():
    # Predictions of two images over two classes: student (1/2, 1/2), (1/4, 3/4); teacher (3/5, 2/5), (4/5, 1/5).
    # Between two classes ρ is ±1, here 0 for the first image, whose student does not prefer any, and −1 for the
    # second. Within class 0 the student falls where the teacher rises: −1, and so for class 1.
    student, teacher = logs([1, 1], [1, 3]), logs([3, 2], [4, 1])
    assert dist(student, teacher, beta=1.0, gamma=0.0).item() == pytest.approx(1 - (0 - 1) / 2, abs=1e-5)
    assert dist(student, teacher, beta=0.0, gamma=1.0).item() == pytest.approx(1 - (-1 - 1) / 2, abs=1e-5)
    # Three classes: student (1, 2, 3)/6, teacher (1, 3, 2)/6; centred (−1, 0, 1) and (−1, 1, 0): ρ = 1/2.
    value = dist(logs([1, 2, 3]), logs([1, 3, 2]), beta=3.0, gamma=0.0)
    assert value.item() == pytest.approx(3 * 0.5, rel=1e-5)
    # T = 2 takes the square roots of squares, and multiplies by 4.
    value = dist(logs([1, 4, 9]), logs([1, 9, 4]), beta=3.0, gamma=0.0, temperature=2.0)
    assert value.item() == pytest.approx(4 * 3 * 0.5, rel=1e-5)


@pytest.mark.parametrize('type', ['soft_target_kl', 'hard_label', 'dkd', 'dist'])
def test_teacher_may_give_log_probabilities(type):
    student, teacher, target = torch.randn(4, 6), torch.randn(4, 6), torch.tensor([0, 1, 2, 3])
    loss = WeightedLoss(type)
    torch.testing.assert_close(loss(student, target, teacher), loss(student, target, teacher.log_softmax(1)))


def test_maps_of_different_sizes_meet_at_the_smaller_one():
    x, y = (
        torch.arange(8.0).view(1, 1, 2, 4),
        torch.tensor([[1.0, 3.0], [5.0, 7.0], [0.0, 4.0], [2.0, 2.0]])[None, None],
    )
    x, y = same_size(x, y)
    # 2×4 and 4×2 meet at 2×2: means of pairs of columns, and of pairs of rows.
    torch.testing.assert_close(x, torch.tensor([[[[0.5, 2.5], [4.5, 6.5]]]]))
    torch.testing.assert_close(y, torch.tensor([[[[3.0, 5.0], [1.0, 3.0]]]]))


def test_attention_transfer_by_hand():
    # Two channels, two positions. Mean squares: student ((9 + 0)/2, (0 + 16)/2) ~ (9, 16)/√337; teacher ~ (1, 0).
    student = torch.tensor([[[[3.0, 0.0]], [[0.0, 4.0]]]])
    teacher = torch.tensor([[[[2.0, 0.0]]]])
    expected = ((9 / sqrt(337) - 1) ** 2 + (16 / sqrt(337)) ** 2) / 2
    assert attention_transfer(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_fitnet_by_hand():
    student, teacher = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]), torch.tensor([[[[1.0, 0.0]], [[0.0, 4.0]]]])
    assert fitnet(student, teacher).item() == pytest.approx((0 + 4 + 9 + 0) / 4)


def test_cwd_by_hand():
    # Two channels over two positions; teacher (3/4, 1/4) and (1/2, 1/2), student (1/2, 1/2) in both; T = 1.
    student = torch.zeros(1, 2, 1, 2)
    teacher = logs([3, 1], [1, 1]).view(1, 2, 1, 2)
    value = kl([0.75, 0.25], [0.5, 0.5]) / 2
    assert cwd(student, teacher, temperature=1.0).item() == pytest.approx(value, rel=1e-5)
    # T = 2 takes the square root of the odds and multiplies by 4.
    q = sqrt(3) / (1 + sqrt(3))
    assert cwd(student, teacher, temperature=2.0).item() == pytest.approx(4 * kl([q, 1 - q], [0.5, 0.5]) / 2, rel=1e-5)


def test_rkd_by_hand():
    # Embeddings are means over two positions. Teacher: a right angle with sides 3, 4, 5, mean distance 4; student: the
    # points 0, 1, 3 of a line, distances 1, 2, 3, mean 2.
    teacher = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    student = torch.tensor([[0.0], [1.0], [3.0]])
    x, y = (torch.stack([z - 1, z + 1], dim=2)[..., None] for z in (student, teacher))
    # Scaled distances (01, 02, 12): student (1/2, 3/2, 1), teacher (3/4, 1, 5/4); Huber is d²/2 below 1; each pair
    # counts twice among 9.
    distances = 2 * (0.25**2 + 0.5**2 + 0.25**2) / 2 / 9
    assert rkd(x, y, distance=1.0, angle=0.0).item() == pytest.approx(distances, rel=1e-5)
    # Cosines at the corners 0, 1, 2: student 1, −1, 1; teacher 0, 3/5, 4/5. Each angle counts twice among 27; the
    # angle of a direction with itself is the same for both. Differences 1, 1.6 and 0.2.
    angles = 2 * (0.5 * 1 + (1.6 - 0.5) + 0.5 * 0.2**2) / 27
    assert rkd(x, y, distance=0.0, angle=1.0).item() == pytest.approx(angles, rel=1e-5)
    assert rkd(x, y).item() == pytest.approx(distances + 2 * angles, rel=1e-5)


def test_rkd_has_a_finite_gradient_where_images_coincide():
    student = torch.zeros(3, 2, 1, 1, requires_grad=True)
    rkd(student, torch.randn(3, 4, 1, 1)).backward()
    assert student.grad.isfinite().all()


def test_losses_are_computed_in_fp32():
    student, teacher = torch.randn(4, 5).bfloat16(), torch.randn(4, 5).bfloat16()
    loss = WeightedLoss('soft_target_kl', temperature=1.0)
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(student, torch.zeros(4).long(), teacher)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, soft_target_kl(student.float(), teacher.float()))
    loss = WeightedLoss('fitnet', layers=[(0, 0)])
    loss.connect([2], [3])
    maps = torch.randn(1, 2, 4, 4).bfloat16(), torch.randn(1, 3, 4, 4).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(student, None, None, {0: maps[0]}, {0: maps[1]})
    torch.testing.assert_close(value, fitnet(loss.projectors[0](maps[0].float()), maps[1].float()))
    assert value.dtype == torch.float32


def test_a_feature_term_is_the_sum_over_its_pairs_of_layers():
    loss = WeightedLoss('attention_transfer', weight=10.0, layers=[(0, 1), (-1, -1)])
    loss.connect([4, 8], [2, 2, 2])
    assert loss.layers == [(0, 1), (1, 2)]
    assert not list(loss.parameters())
    student, teacher = ({i: torch.randn(2, 3, 4, 4) for i in range(n)} for n in (2, 3))
    expected = attention_transfer(student[0], teacher[1]) + attention_transfer(student[1], teacher[2])
    torch.testing.assert_close(loss(torch.zeros(2, 5), None, None, student, teacher), 10 * expected)


def test_projectors_are_there_where_channels_must_agree():
    fitted, dense, equal = (WeightedLoss(type, layers=[(0, 0)]) for type in ('fitnet', 'cwd', 'cwd'))
    fitted.connect([4], [4])
    dense.connect([4], [6])
    equal.connect([4], [4])
    assert [tuple(p.shape) for p in fitted.parameters()] == [(4, 4, 1, 1), (4,)]
    assert [tuple(p.shape) for p in dense.parameters()] == [(6, 4, 1, 1), (6,)]
    assert not list(equal.parameters())


def test_terms_of_one_type_have_names_of_their_own():
    losses = build_losses([dict(type='dkd'), dict(type='cross_entropy'), dict(type='dkd', alpha=2.0)])
    assert [loss.name for loss in losses] == ['loss_dkd', 'loss_cross_entropy', 'loss_dkd_2']


def test_losses_say_what_they_need():
    needs_all = [
        WeightedLoss('soft_target_kl').needs_all_classes,
        WeightedLoss('soft_target_kl', temperature=2.0).needs_all_classes,
        WeightedLoss('soft_target_kl', standardise=True).needs_all_classes,
        WeightedLoss('dkd').needs_all_classes,
        WeightedLoss('dkd', temperature=1.0).needs_all_classes,
    ]
    assert needs_all == [False, True, True, True, False]
    assert not WeightedLoss('cross_entropy').needs_teacher
    assert WeightedLoss('rkd', layers=[(0, 0)]).needs_teacher


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type='kl'), "loss 'kl' is unknown; choose from cross_entropy, soft_target_kl, hard_label"),
        (dict(type='dist', tau=2.0), "loss dist has no option 'tau'; choose from weight, beta, gamma, temperature"),
        (dict(type='rkd'), r"loss rkd needs layers, as in dict\(type='rkd', layers=\[\(-1, -1\)\]\)"),
        (dict(type='dkd', layers=[(0, 0)]), 'loss dkd compares logits; drop layers'),
    ],
)
def test_a_wrong_term_is_one_line_with_the_way_out(config, message):
    with pytest.raises(ValueError, match=message):
        WeightedLoss(**config)
