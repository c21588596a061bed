"""Losses against values computed by hand."""

import math

import pytest
import torch

from distill.losses import WeightedLoss, cross_entropy, hard_label, soft_target_kl


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


def test_losses_are_computed_in_fp32():
    student, teacher = torch.randn(4, 5).bfloat16(), torch.randn(4, 5).bfloat16()
    loss = WeightedLoss('soft_target_kl', temperature=1.0)
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(student, torch.zeros(4).long(), teacher)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, soft_target_kl(student.float(), teacher.float()))


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


def test_unknown_loss_names_the_choices():
    with pytest.raises(ValueError, match="loss 'kl' is unknown; choose from cross_entropy, soft_target_kl, hard_label"):
        WeightedLoss('kl')
