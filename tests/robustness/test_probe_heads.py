"""Classifiers of features, against cases that are computed by hand and solutions that have conditions."""

import math

import numpy as np
import pytest
import torch

from distill.robustness.probe.labels import choose_held_out, choose_labelled
from distill.robustness.probe.linear import STRENGTHS, WITHOUT_CHOICE, fit_probe, logistic, ridge
from distill.robustness.probe.neighbours import NearestNeighbours


def test_nearest_neighbours_by_hand():
    """Cosines of (1, 0) with the bank: 1, 0.8, 0.6, 0, -1; lengths play no part."""
    bank = torch.tensor([[3.0, 0.0], [8.0, 6.0], [0.6, 0.8], [0.0, 2.0], [-1.0, 0.0]])
    labels = torch.tensor([0, 1, 1, 2, 2])
    knn = NearestNeighbours(bank, labels, 4, neighbours=3, temperature=0.5)
    votes = knn(torch.tensor([[10.0, 0.0]])).softmax(dim=1)[0]
    expected = [math.exp(1 / 0.5), math.exp(0.8 / 0.5) + math.exp(0.6 / 0.5), 0.0, 0.0]
    assert votes.tolist() == pytest.approx([value / sum(expected) for value in expected], abs=1e-6)
    # With a low temperature the nearest decides, with a high one the count does.
    for temperature, nearest in ((0.07, 0), (10.0, 1)):
        assert NearestNeighbours(bank, labels, 4, 3, temperature)(torch.tensor([[1.0, 0.0]])).argmax() == nearest
    # Of fewer images than neighbours all vote, and portions of queries are put together again.
    assert NearestNeighbours(bank, labels, 4)(torch.tensor([[1.0, 0.0]])).softmax(1)[0, 2] > 0
    queries = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    whole = knn(queries)
    for k in range(50):
        torch.testing.assert_close(knn(queries[k : k + 1])[0], whole[k])


def blobs(count: int = 90, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes that overlap, in features of different scales, one of which does not vary."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = torch.tensor([[0.0, 0, 0], [2, 0, 1], [0, 2, 1]])
    x = (centres[labels] + torch.randn(count, 3, generator=generator)) * torch.tensor([1.0, 100.0, 0.01])
    return torch.cat([x + torch.tensor([5.0, -7.0, 0.0]), torch.full((count, 1), 3.0)], dim=1), labels


def test_ridge_by_hand():
    """One feature, two classes: slope cov(x, y) / (var(x) + λ), through the means."""
    x = torch.tensor([[-1.0], [-1.0], [1.0], [3.0]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1, 1])
    weight, bias = ridge(x, labels, 2, (2.0,))[0]
    # mean(x) = 0.5, var(x) = 2.75, mean(y) = 0.75, cov(x, y) = 0.375.
    slope = 0.375 / (2.75 + 2.0)
    assert weight[1].item() == pytest.approx(slope)
    assert bias[1].item() == pytest.approx(0.75 - slope * 0.5)
    assert weight[0].item() == pytest.approx(-slope)


def test_logistic_regression_is_at_its_minimum():
    """The gradient vanishes, and of two images by hand: tanh(w) of the optimum is what the regulariser leaves."""
    x, labels = blobs()
    x = ((x - x.mean(0)) / x.std(0).clamp(min=1e-9))[:, :3].double()
    for strength, (weight, bias) in zip(STRENGTHS, logistic(x, labels, 3, STRENGTHS), strict=True):
        weight.requires_grad_(), bias.requires_grad_()
        loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, labels) + strength / 2 * weight.square().sum()
        gradients = torch.autograd.grad(loss, [weight, bias])
        assert max(one.abs().max().item() for one in gradients) < 1e-5, strength
    # x = ±1, classes 1 and 0: with weights ∓w the loss is log(1 + exp(−2w)) + λ w², so 2 σ(−2w) = 2 λ w.
    pair = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    weight, bias = logistic(pair, torch.tensor([0, 1]), 2, (0.1,))[0]
    w = weight[1].item()
    assert 1 / (1 + math.exp(2 * w)) == pytest.approx(0.1 * w, rel=1e-4)
    assert bias.abs().max() < 1e-6


@pytest.mark.parametrize('path', [logistic, ridge])
def test_a_probe_is_of_features_as_they_are_and_deterministic(path):
    x, labels = blobs()
    held_out = torch.from_numpy(choose_held_out(labels.numpy(), 0))
    probe = fit_probe(path, x, labels, 3, held_out)
    assert probe.strength in STRENGTHS
    assert 50 < probe.held_out_top1_pct <= 100
    assert torch.equal(fit_probe(path, x, labels, 3, held_out).weight, probe.weight)
    # Another unit of a feature changes no decision, and a feature that does not vary has no weight.
    scaled = fit_probe(path, x * torch.tensor([7.0, 0.1, 1.0, 2.0]), labels, 3, held_out)
    torch.testing.assert_close(scaled(x * torch.tensor([7.0, 0.1, 1.0, 2.0])), probe(x), atol=1e-3, rtol=1e-3)
    assert probe.weight[:, 3].abs().max() < 1e-6
    assert (probe(x).argmax(1) == labels).float().mean() > 0.6
    test, expected = blobs(300, seed=1)
    assert (probe(test).argmax(1) == expected).float().mean() > 0.6
    one_each = fit_probe(path, x[:3], labels[:3], 3, torch.zeros(3, dtype=torch.bool))
    assert (one_each.strength, one_each.held_out_top1_pct) == (WITHOUT_CHOICE, None)


def test_the_strength_is_the_one_that_serves_the_held_out_images():
    """Noise in many features and few images: hardly any regulariser must lose to a strong one."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 2
    x = torch.randn(60, 200, generator=generator)
    x[:, 0] += 2.0 * (2 * labels - 1)
    probe = fit_probe(logistic, x, labels, 2, torch.from_numpy(choose_held_out(labels.numpy(), 0)))
    assert probe.strength >= 0.1


def test_shares_of_labels_are_drawn_by_class_and_nested():
    labels = np.repeat([0, 1, 2], [100, 10, 3])
    tenth = choose_labelled(labels, 0.1, seed=1)
    assert np.bincount(labels[tenth]).tolist() == [10, 1, 1]
    assert {*tenth} <= {*choose_labelled(labels, 0.5, seed=1)}
    assert tenth.tolist() != choose_labelled(labels, 0.1, seed=2).tolist()
    assert choose_labelled(labels, 1.0, seed=7).tolist() == list(range(113))
    held_out = choose_held_out(labels, 0)
    assert np.bincount(labels[held_out]).tolist() == [20, 2, 1]
    assert not choose_held_out(np.array([0, 1, 2]), 0).any()
