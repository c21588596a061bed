"""Losses without labels: by hand, and against values of the original implementations."""

from math import exp, log, sqrt
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from distill.losses.embeddings import (
    cosine,
    gram,
    mse,
    pseudo_classes,
    radio,
    resampled,
    smooth_l1,
    token_relations,
)
from distill.losses.queue import EmbeddingQueue
from distill.losses.statistics import Statistics, hadamard


class Reference(NamedTuple):
    """What an original implementation gives, in float64: value, norm of the gradient, its beginning, its largest."""

    value: float
    grad_norm: float
    grad_head: list[float]
    grad_max: tuple[int, float]


REFERENCES = {
    # NVIDIA's TAO toolkit, commit 3a8a971b.
    'radio_cos_1': Reference(
        1.1237835303466108, 0.18135678410318376,
        [-0.055276204868937945, -0.05204849102168611, -0.025634748221191127, 0.00806129558399486],
        (0, -0.055276204868937945),
    ),
    'radio_bal_1': Reference(
        1.1043805702764695, 0.04412874871842065,
        [-0.007375374937033718, -0.005567122959902319, -0.0011173312001748414, 0.003532995979034376],
        (72, 0.009428807830811537),
    ),
    'radio_bal_beta1': Reference(
        1.1421059108648504, 0.04450995085335153,
        [-0.007375374937033718, -0.005567122959902318, -0.0013304058843179082, 0.0036563596864559304],
        (72, 0.009428807830811537),
    ),
    'phis_8_rot': Reference(
        1.602655827416641, 0.041790870418349474,
        [-0.0021186486159473833, -0.001575987509496256, -0.00033436199807025365, 0.000896153839478172],
        (114, -0.003747763620424634),
    ),
    'phis_12_rot': Reference(
        1.5528462330384072, 0.03486791672503506,
        [-0.001522158631106517, -0.0011322797806294512, -0.0002402248289054177, 0.0006438482961701368],
        (792, 0.002706082499581261),
    ),
    # SwinTransformer/Feature-Distillation, commit 2115145a.
    'tao_fd_1': Reference(
        0.8288434097411382, 0.07244633284926236,
        [-0.00494664369687986, 0.0005899031242588117, 0.006959717880338019, 0.009259259259259259],
        (3, 0.009259259259259259),
    ),
    # lightly-ai/lightly-train, commit 8f5a75c4; of its third method the local term's share of the whole.
    'lt_v1_1': Reference(
        17.332124977677104, 3.3237982577524035,
        [-1.1889714732306056, -0.8937779891132014, -0.1361369336616277, 0.5345625097495933],
        (23, -1.2410643872747456),
    ),
    'lt_v2_1': Reference(
        6.5031240742254495, 0.42502039409321446,
        [-0.05400498708089192, -0.04946693860822254, -0.02290307647652096, 0.00981644561721219],
        (114, -0.07848315437634786),
    ),
    # facebookresearch/dinov3, commit 6876159a.
    'gram_1': Reference(
        0.30406292978760185, 0.03393600891748052,
        [-1.7895621125631296e-05, -0.0007319262524040464, -0.00037015933134479373, 0.0006167482418844225],
        (32, -0.00962435051639732),
    ),
    'gram_2': Reference(
        0.7720512169550134, 0.08223630972548879,
        [0.010399760873326348, 0.004489537760486027, -0.0002282893350582238, -0.001960695064407953],
        (90, 0.034497682486818754),
    ),
}  # fmt: skip


def given(index: int, shape: tuple[int, ...], amplitude: float = 1.0) -> torch.Tensor:
    """The input of the references: a·(sin((0.7 + 0.13 i) k + i) + 0.5 sin(0.05 k + 2 i)) for the elements k."""
    k = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    x = amplitude * (((0.7 + 0.13 * index) * k + index).sin() + 0.5 * (0.05 * k + 2 * index).sin())
    return x.float().view(shape)


def last(x: torch.Tensor) -> torch.Tensor:
    """A map with its channels last."""
    return x.permute(0, 2, 3, 1)


def phi_s(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Both sides through the statistics of the teacher."""
    statistics = Statistics('phi_s', y.shape[1])
    target = statistics(last(y))
    return mse(statistics.eval()(last(x)), target)


def with_queue(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    queue = EmbeddingQueue(12, 6)
    queue.rows[:8] = F.normalize(given(2, (8, 6)), dim=1)
    return pseudo_classes(x, y, queue(y))


CASES = {
    'radio_cos_1': (cosine, (5, 8), 1.0, 1.0),
    'radio_bal_1': (radio, (2, 12, 6), 2.0, 3.0),
    'radio_bal_beta1': (lambda x, y: radio(x, y, beta=1.0), (2, 12, 6), 2.0, 3.0),
    'phis_8_rot': (phi_s, (2, 8, 6, 7), 2.0, 3.0),
    'phis_12_rot': (phi_s, (3, 12, 5, 5), 2.0, 3.0),
    'tao_fd_1': (lambda x, y: smooth_l1(x, Statistics('layer_norm', 6)(y)), (2, 9, 6), 2.0, 3.0),
    'lt_v1_1': (with_queue, (4, 6), 1.0, 1.0),
    'lt_v2_1': (mse, (2, 12, 6), 1.0, 3.0),
    'gram_1': (lambda x, y: gram(x, y, remove_negative=True), (2, 10, 6), 1.0, 1.0),
    'gram_2': (gram, (2, 10, 6), 1.0, 1.0),
}


@pytest.mark.parametrize('name', CASES)
def test_values_and_gradients_are_those_of_the_originals(name):
    loss, shape, of_student, of_teacher = CASES[name]
    x, y = given(0, shape, of_student).requires_grad_(), given(1, shape, of_teacher)
    value, expected = loss(x, y), REFERENCES[name]
    value.backward()
    gradient = x.grad.flatten()
    assert value.item() == pytest.approx(expected.value, rel=1e-5)
    assert gradient.norm().item() == pytest.approx(expected.grad_norm, rel=1e-5)
    largest, of_largest = expected.grad_max
    torch.testing.assert_close(gradient[:4].double(), torch.tensor(expected.grad_head, dtype=torch.float64),
                               rtol=1e-5, atol=1e-5 * abs(of_largest))  # fmt: skip
    assert gradient[largest].item() == pytest.approx(of_largest, rel=1e-5)


def test_relations_of_positions_are_those_of_the_original():
    # lightly-train's third method on this input: the local term alone is 0.6364208836622968.
    x, y = given(2, (3, 10, 6)), given(3, (3, 10, 6))
    assert token_relations(x, y).item() == pytest.approx(0.6364208836622968, rel=1e-5)


def test_cosine_by_hand():
    # Right angle: 1; 45°: 1 − 1/√2; opposite: 2; a zero has no direction: 1.
    x = torch.tensor([[3.0, 0.0], [1.0, 1.0], [1.0, 2.0], [0.0, 0.0]])
    y = torch.tensor([[0.0, 0.1], [0.0, 5.0], [-2.0, -4.0], [1.0, 0.0]])
    assert cosine(x, y).item() == pytest.approx((1 + (1 - 1 / sqrt(2)) + 2 + 1) / 4, rel=1e-6)


def test_differences_by_hand():
    x, y = torch.tensor([[1.0, 5.0]]), torch.tensor([[0.0, 1.0]])
    assert mse(x, y).item() == (1 + 16) / 2
    # β = 2: 1²/4 below it, 4 − 1 above.
    assert smooth_l1(x, y).item() == (0.25 + 3) / 2
    angle = 1 - 5 / sqrt(26)
    assert radio(x, y).item() == pytest.approx(0.9 * angle + 0.1 * 1.625, rel=1e-6)


def test_pseudo_classes_by_hand():
    # Two pseudo-classes at right angles, T = 1: the teacher is one of them, the student lies between both.
    queue = torch.eye(2)
    x, y = torch.tensor([[2.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    q = exp(1) / (exp(1) + 1)
    expected = q * log(q / 0.5) + (1 - q) * log((1 - q) / 0.5)
    assert pseudo_classes(x, y, queue, temperature=1.0).item() == pytest.approx(expected, rel=1e-5)


def test_queue_holds_the_newest_embeddings_first_and_looks_only_outside_training():
    queue = EmbeddingQueue(3, 2)
    assert queue(torch.tensor([[0.0, 2.0], [3.0, 0.0]])).tolist() == [[0, 1], [1, 0], [0, 0]]
    assert queue(torch.tensor([[-5.0, 0.0], [0.0, -1.0]])).tolist() == [[-1, 0], [0, -1], [0, 1]]
    assert queue.eval()(torch.tensor([[1.0, 0.0]])).tolist() == [[1, 0], [-1, 0], [0, -1]]
    assert queue.rows.tolist() == [[-1, 0], [0, -1], [0, 1]]
    # An image is never without its own embedding.
    assert len(queue.train()(torch.eye(2).repeat(2, 1))) == 4
    assert queue.rows.tolist() == [[1, 0], [0, 1], [1, 0]]


def test_relations_of_positions_by_hand():
    # Two positions: the student's at right angles, the teacher's alike. Rows: (e, 1)/(e + 1) against (1/2, 1/2), T = 1.
    x, y = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]])
    p = exp(1) / (exp(1) + 1)
    expected = 0.5 * log(0.5 / p) + 0.5 * log(0.5 / (1 - p))
    assert token_relations(x, y, temperature=1.0).item() == pytest.approx(expected, rel=1e-5)
    # Cosines (1, 0; 0, 1) against (1, 1; 1, 1): two of four differ by 1.
    assert gram(x, y).item() == pytest.approx(0.5)
    assert gram(-x, y[:, :1].expand(1, 2, 3) * torch.tensor([1.0, -1.0]).view(1, 2, 1)).item() == pytest.approx(0.5)


def test_a_map_moved_by_one_cell_is_not_the_same_map():
    torch.manual_seed(0)
    grid = torch.randn(2, 4, 6, 8)
    moved = grid.roll(1, dims=3)
    for loss in (cosine, mse, smooth_l1, radio, token_relations, gram):
        assert loss(last(grid), last(grid)).item() == pytest.approx(0, abs=1e-5)
        assert loss(last(moved), last(grid)).item() > 0.02, loss


@pytest.mark.parametrize('size', [(4, 4), (14, 9)])
@pytest.mark.parametrize('other', [(7, 7), (16, 3)])
def test_resampling_leaves_a_feature_where_it_is_in_the_image(size, other):
    """A ramp over the image is the same ramp on any grid, by the centres of the cells."""

    def ramp(height: int, width: int) -> torch.Tensor:
        y, x = ((torch.arange(n) + 0.5) / n for n in (height, width))
        return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=2)[None]

    found, expected = resampled(ramp(*size), other), ramp(*other)
    assert found.shape == expected.shape
    # The window of a sample at the edge is cut off there, and so leans inwards.
    inner = tuple(slice(-(-n // m), n - -(-n // m)) for n, m in zip(other, size, strict=True))
    found, expected = (one[:, inner[0], inner[1]] for one in (found, expected))
    assert found.numel()
    torch.testing.assert_close(found, expected, atol=1e-2 if min(size) > min(other) else 1e-5, rtol=0)


def test_resampling_to_a_finer_grid_is_torchs_and_to_a_coarser_one_sees_every_cell():
    torch.manual_seed(0)
    grid = torch.randn(2, 7, 9, 5, requires_grad=True)
    expected = F.interpolate(grid.permute(0, 3, 1, 2), (16, 12), mode='bilinear', align_corners=False)
    torch.testing.assert_close(resampled(grid, (16, 12)), last(expected))
    resampled(grid, (3, 2)).sum().backward()
    assert grid.grad.min() > 0.01
    # Four cells of one are their mean at a quarter of the resolution if the rest is alike.
    assert resampled(torch.ones(1, 8, 8, 1), (2, 2)).flatten().tolist() == pytest.approx([1.0] * 4)
    assert resampled(grid, (7, 9)) is grid


def test_statistics_are_those_of_all_steps_until_they_are_fixed():
    torch.manual_seed(0)
    batches = [torch.randn(5, 3) * torch.tensor([1.0, 4.0, 0.5]) + 7 for _ in range(6)]
    statistics = Statistics('mean_std', 3, warmup=4)
    for batch in batches:
        found = statistics(batch)
    seen = torch.cat(batches[:4])
    torch.testing.assert_close(found, (batches[-1] - seen.mean(0)) / seen.std(0), rtol=1e-5, atol=1e-5)
    # The fifth step changed nothing, nor do steps outside training.
    assert statistics.steps == 4
    fresh = Statistics('mean_std', 3).eval()
    assert torch.equal(fresh(batches[0]), batches[0])


def test_a_channel_without_variance_stays_small():
    y = torch.stack([torch.arange(8.0), torch.full((8,), 3.0)], dim=1)
    found = Statistics('mean_std', 2)(y)
    assert found.isfinite().all()
    assert found[:, 1].abs().max() == 0
    assert Statistics('phi_s', 2)(y).isfinite().all()
    assert Statistics('mean_std', 2)(y[:1]).tolist() == [[0, 0]]


def test_phi_s_scales_distances_by_one_factor_and_gives_each_channel_a_variance_of_one():
    torch.manual_seed(0)
    y = torch.randn(500, 12) @ torch.diag(torch.logspace(-2, 1, 12)) @ torch.randn(12, 12) + 3
    statistics = Statistics('phi_s', 12)
    found = statistics(y)
    alpha = 1 / torch.cov(y.t()).diagonal().mean().sqrt()
    torch.testing.assert_close(torch.pdist(found), alpha * torch.pdist(y), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.var(dim=0), torch.ones(12), rtol=1e-3, atol=0)
    # Without the rotation they differ by orders of magnitude.
    assert (alpha * y).var(dim=0).max() > 5 * (alpha * y).var(dim=0).min()


@pytest.mark.parametrize('order', [1, 2, 12, 20, 28, 36, 44, 96, 384, 768])
def test_hadamard_matrices(order):
    matrix = hadamard(order)
    torch.testing.assert_close(matrix @ matrix.t(), torch.eye(order), atol=1e-5, rtol=0)
    torch.testing.assert_close(matrix.abs(), torch.full((order, order), order**-0.5))


def test_widths_without_a_hadamard_matrix_are_rotated_all_the_same():
    matrix = hadamard(10)
    torch.testing.assert_close(matrix @ matrix.t(), torch.eye(10), atol=1e-5, rtol=0)
    assert matrix.abs().max() < 0.5
