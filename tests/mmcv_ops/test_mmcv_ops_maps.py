"""Stand-ins for mmcv's compiled operators on feature maps and logits: RoIs, losses, convolutions and attention."""

import sys

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch.autograd import gradcheck

pytest.importorskip('mmcv')

from backbones.mmcv_ops import install

install()

# ---------------------------------------------------------------------------------------------------------------
# RoIs


def test_roi_align_of_a_ramp_is_the_ramp():
    from mmcv.ops import RoIAlign

    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing='ij')
    ramp = (x + 100 * y)[None, None]
    # The box spans 4 to 12 pixels in x and 2 to 10 in y; bin centres lie at a quarter and three quarters of that. With
    # pixel centres at half coordinates, the value there is half a pixel less.
    roi = torch.tensor([[0.0, 8, 4, 24, 20]])
    pooled = RoIAlign(2, spatial_scale=0.5, aligned=True)(ramp, roi)[0, 0]
    torch.testing.assert_close(pooled, torch.tensor([[5.5 + 350, 9.5 + 350], [5.5 + 750, 9.5 + 750]]))
    shifted = RoIAlign(2, spatial_scale=0.5, aligned=False)(ramp, roi)[0, 0]
    torch.testing.assert_close(shifted, pooled + 50.5)


@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align_gradient(aligned):
    from mmcv.ops import roi_align

    torch.manual_seed(0)
    rois = torch.tensor([[0.0, 1.3, 2.1, 9.7, 12.4], [1, 0, 0, 15, 15], [1, 3.2, 3.1, 3.4, 9.9]])
    weight = torch.rand(3, 2, 3, 4)
    gradients = []
    for function in (
        lambda x: roi_align(x, rois, (3, 4), 0.5, 2, 'avg', aligned),
        lambda x: torchvision.ops.roi_align(x, rois, (3, 4), 0.5, 2, aligned),
    ):
        x = torch.arange(2 * 2 * 8 * 8.0).reshape(2, 2, 8, 8).sin().requires_grad_()
        y = function(x)
        gradients.append((y.detach(), torch.autograd.grad((y * weight).sum(), x)[0]))
    torch.testing.assert_close(*gradients)
    assert gradients[0][1].abs().sum() > 1


def test_roi_align_in_half_precision():
    from mmcv.ops import roi_align

    x = torch.rand(1, 2, 8, 8).bfloat16().requires_grad_()
    y = roi_align(x, torch.tensor([[0.0, 0, 0, 7, 7]]).bfloat16(), 2, 1.0, 2, 'avg', True)
    y.float().sum().backward()
    # Each of the 4 averages spreads a weight of 1 over the map.
    assert y.dtype == x.grad.dtype == torch.bfloat16
    assert float(x.grad[0, 0].sum()) == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize(('aligned', 'shift'), [(True, 0.5), (False, 0)])
def test_roi_align_takes_the_maximum(aligned, shift):
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing='ij')
    ramp = (x - 100 * y).expand(1, 2, 16, 16) * torch.tensor([1, -1])[:, None, None]
    # 4 bins of 4 × 2 pixels each, 2 samples in x and 4 in y: a quarter and an eighth of a bin from its ends. Then a box
    # of 2 × 3 pixels with a sample a pixel, that is 1 and 2 in a bin.
    rois = torch.tensor([[0.0, 8, 4, 24, 12], [0, 2, 2, 6, 8]])
    first = [sampled(ramp, rois[:1], (2, 2), ratio, aligned) for ratio in (2, 4)]
    for (values, at_y, at_x), (in_x, in_y) in zip(first, ((1, 0.5), (0.5, 0.25)), strict=True):
        left, right = torch.tensor([4.0, 8]) + in_x - shift, torch.tensor([8.0, 12]) - in_x - shift
        top, bottom = torch.tensor([2.0, 4]) + in_y - shift, torch.tensor([4.0, 6]) - in_y - shift
        torch.testing.assert_close(at_y[0], torch.stack((top, bottom))[:, :, None].expand(2, 2, 2))
        torch.testing.assert_close(at_x[0], torch.stack((right, left))[:, None].expand(2, 2, 2))
        torch.testing.assert_close(values[0], (at_x - 100 * at_y)[0] * torch.tensor([1, -1])[:, None, None])
    values, at_y, at_x = sampled(ramp, rois[1:], (2, 2), 0, aligned)
    torch.testing.assert_close(at_y[0, :, :, 0], torch.tensor([[1.375, 2.875], [2.125, 3.625]]) - shift)
    torch.testing.assert_close(at_x[0, :, 0], torch.tensor([[1.5, 2.5], [1.5, 2.5]]) - shift)


def sampled(x, rois, bins, ratio, aligned):
    """The largest samples and their places, as the operator fills them in at half of the image's resolution."""
    results = [x.new_zeros(len(rois), x.size(1), *bins) for _ in range(3)]
    sys.modules['mmcv._ext'].roi_align_forward(
        x, rois, *results, *bins, spatial_scale=0.5, sampling_ratio=ratio, pool_mode=0, aligned=aligned
    )
    return results


@pytest.mark.parametrize(('ratio', 'aligned'), [(2, True), (0, True), (0, False)])
def test_gradient_of_the_maximum(ratio, aligned):
    from mmcv.ops import roi_align

    torch.manual_seed(0)
    x = torch.randn(2, 2, 6, 7, dtype=torch.double, requires_grad=True)
    # Inside, across the border, off the map, and without extent, where an aligned RoI has no sample.
    rois = [[0, 1, 2, 9.3, 8.2], [1, -3, -2, 20, 5.1], [1, 40, 40, 50, 50], [0, 3, 3, 3, 3]]
    rois = torch.tensor(rois, dtype=torch.double)
    assert gradcheck(lambda x: roi_align(x, rois, (2, 3), 0.5, ratio, 'max', aligned), x)
    pooled = roi_align(x, rois, (2, 3), 0.5, ratio, 'max', aligned)
    assert (pooled[2] == 0).all()
    assert (pooled[3] == 0).all() == (ratio == 0 and aligned)
    assert roi_align(x, rois[:0], (2, 3), 0.5, ratio, 'max', aligned).shape == (0, 2, 2, 3)


def test_roi_pool_is_adaptive_pooling_of_a_crop():
    from mmcv.ops import roi_pool

    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 11)
    rois = torch.tensor([[0.0, 1, 2, 7, 5], [1, 0, 0, 10, 8], [1, 3, 3, 4, 3]])
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    a = roi_pool(found, rois, (3, 2))
    crops = [expected[int(b), :, int(y) : int(v) + 1, int(x) : int(u) + 1] for b, x, y, u, v in rois.tolist()]
    b = torch.stack([F.adaptive_max_pool2d(crop, (3, 2)) for crop in crops])
    torch.testing.assert_close(a, b)
    weight = torch.rand_like(a)
    torch.testing.assert_close(
        torch.autograd.grad((a * weight).sum(), found), torch.autograd.grad((b * weight).sum(), expected)
    )


def test_roi_pool_does_not_round_the_roi():
    from mmcv.ops import roi_pool

    x = torch.arange(36.0).reshape(1, 1, 6, 6).requires_grad_()
    # Half resolution: 0.5 to 3 in x, bins to 1.75 and 3, pixels 0-1 and 1-2; 1 to 2.5 in y, pixel 1, pixels 1-2. The
    # second is off the map, the third upside down: nothing there, and no gradient.
    rois = torch.tensor([[0.0, 1, 2, 5, 4], [0, 20, 20, 30, 30], [0, 8, 8, 4, 4]])
    pooled = roi_pool(x, rois, 2, 0.5)
    assert pooled[:, 0].flatten(1).tolist() == [[7, 8, 13, 14], [0] * 4, [0] * 4]
    pooled.sum().backward()
    assert x.grad.flatten().nonzero()[:, 0].tolist() == [7, 8, 13, 14]


# ---------------------------------------------------------------------------------------------------------------
# Losses


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
def test_sigmoid_focal_loss(reduction):
    from mmcv.ops import sigmoid_focal_loss

    torch.manual_seed(0)
    x = torch.randn(5, 3)
    target = torch.tensor([0, 2, 1, 3, 0])  # 3 is background
    one_hot = F.one_hot(target, 4)[:, :3].float()
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    a = sigmoid_focal_loss(found, target, 2.0, 0.25, None, reduction)
    # mmcv's mean is over samples, torchvision's over entries.
    b = torchvision.ops.sigmoid_focal_loss(expected, one_hot, 0.25, 2.0, 'sum' if reduction == 'mean' else reduction)
    b = b / 5 if reduction == 'mean' else b
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(
        torch.autograd.grad(a.sum(), found), torch.autograd.grad(b.sum(), expected), rtol=1e-4, atol=1e-6
    )


def test_softmax_focal_loss():
    from mmcv.ops import softmax_focal_loss

    torch.manual_seed(0)
    x = torch.randn(5, 3)
    target, weight = torch.tensor([0, 2, 1, 1, 0]), torch.tensor([1.0, 2.0, 0.5])
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    a = softmax_focal_loss(found, target, 2.0, 0.25, weight, 'mean')
    p = expected.softmax(1)[torch.arange(5), target]
    b = (-0.25 * weight[target] * (1 - p) ** 2 * p.log()).mean()
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(torch.autograd.grad(a, found), torch.autograd.grad(b, expected))


@pytest.mark.parametrize('gamma', [0.0, 0.5, 2.0])
def test_focal_loss_derivatives(gamma):
    from mmcv.ops import sigmoid_focal_loss, softmax_focal_loss

    torch.manual_seed(0)
    x = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    target, weight = torch.tensor([0, 2, 1, 1, 0, 2]), torch.tensor([1.0, 2.0, 0.5], dtype=torch.double)
    assert gradcheck(lambda x: softmax_focal_loss(x, target, gamma, 0.25, weight, 'sum'), x)
    target[0] = 3  # background, which has no weight of its own
    assert gradcheck(lambda x: sigmoid_focal_loss(x, target, gamma, 0.25, weight, 'sum'), x)
    alone = sigmoid_focal_loss(x[:1], target[:1], gamma, 0.25, weight, 'sum')
    torch.testing.assert_close(alone, sigmoid_focal_loss(x[:1], target[:1], gamma, 0.25, None, 'sum'))


@pytest.mark.parametrize('loss', ['sigmoid_focal_loss', 'softmax_focal_loss'])
def test_focal_loss_of_certain_predictions_is_finite(loss):
    from mmcv import ops

    x = torch.tensor([[200.0, -200, 0], [-200, 200, 0]], requires_grad=True)
    value = getattr(ops, loss)(x, torch.tensor([0, 0]), 0.5, 0.25, None, 'sum')
    (gradient,) = torch.autograd.grad(value, x)
    assert value.isfinite()
    assert gradient.isfinite().all()
    assert gradient[1, 0].item() == pytest.approx(-0.25)  # a wrong certainty: α a unit of the logit


def test_softmax_focal_loss_ignores_negative_targets():
    from mmcv.ops import softmax_focal_loss

    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = softmax_focal_loss(x, torch.tensor([1, -1, 2]), 2.0, 0.25, None, 'sum')
    loss.backward()
    torch.testing.assert_close(loss, softmax_focal_loss(x[[0, 2]], torch.tensor([1, 2]), 2.0, 0.25, None, 'sum'))
    assert x.grad.any(1).tolist() == [True, False, True]


# ---------------------------------------------------------------------------------------------------------------
# Convolutions and attention


@pytest.mark.parametrize('modulated', [False, True])
def test_deformable_convolution_without_offsets_is_a_convolution(modulated):
    from mmcv.ops import deform_conv2d, modulated_deform_conv2d

    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 4, 7, 9), torch.randn(6, 2, 3, 3), torch.randn(6)
    geometry = dict(stride=2, padding=1, dilation=1, groups=2)
    expected = F.conv2d(x, weight, bias if modulated else None, **geometry)
    offset = torch.zeros(2, 2 * 2 * 9, *expected.shape[-2:])
    if modulated:
        mask = torch.ones(2, 2 * 9, *expected.shape[-2:])
        found = modulated_deform_conv2d(x, offset, mask, weight, bias, 2, 1, 1, 2, 2)
    else:
        found = deform_conv2d(x, offset, weight, 2, 1, 1, 2, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('modulated', [False, True])
def test_deformable_convolution_gradients(modulated):
    from mmcv.ops import deform_conv2d, modulated_deform_conv2d

    torch.manual_seed(0)
    shapes = [(2, 4, 5, 6), (2, 2 * 9, 5, 6), (6, 4, 3, 3), (2, 9, 5, 6), (6,)]
    values = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    results = []
    for mmcv_s in (True, False):
        x, offset, weight, mask, bias = leaves = [value.clone().requires_grad_() for value in values]
        if mmcv_s and modulated:
            y = modulated_deform_conv2d(x, offset, mask, weight, bias, 1, 1, 1, 1, 1)
        elif mmcv_s:
            y = deform_conv2d(x, offset, weight, 1, 1, 1, 1, 1)
        else:
            extra = dict(bias=bias, mask=mask) if modulated else {}
            y = torchvision.ops.deform_conv2d(x, offset, weight, padding=1, **extra)
        leaves = leaves if modulated else leaves[:3]
        results.append((y, *torch.autograd.grad((y * y.detach().cos()).sum(), leaves)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)
        assert expected.abs().max() > 0.1


@pytest.mark.parametrize('modulated', [False, True])
def test_offsets_at_the_border_have_mmcvs_gradient(modulated):
    from mmcv.ops import deform_conv2d, modulated_deform_conv2d

    # A single pixel of value 3 under a 1 × 1 kernel, padded by 1: only the middle sees it. Its neighbours sit just
    # outside, where moving towards the pixel would help and moving away would not; mmcv takes the second.
    x, weight = torch.full((1, 1, 1, 1), 3.0), torch.ones(1, 1, 1, 1)
    offset = torch.zeros(1, 2, 3, 3, requires_grad=True)
    if modulated:
        y = modulated_deform_conv2d(x, offset, torch.ones(1, 1, 3, 3), weight, None, 1, 1, 1, 1, 1)
    else:
        y = deform_conv2d(x, offset, weight, 1, 1, 1, 1, 1)
    y.sum().backward()
    expected = torch.zeros(1, 2, 3, 3)
    expected[:, :, 1, 1] = -3
    torch.testing.assert_close(offset.grad, expected)


def test_masked_convolution_is_the_convolution_at_the_mask():
    from mmcv.ops import MaskedConv2d

    torch.manual_seed(0)
    x, mask = torch.randn(1, 3, 6, 7), (torch.rand(1, 6, 7) > 0.5).float()
    for kernel, padding in (((3, 3), 1), ((1, 5), (0, 2))):
        conv = MaskedConv2d(3, 4, kernel, padding=padding)
        expected = F.conv2d(x, conv.weight, conv.bias, padding=padding)
        torch.testing.assert_close(conv(x, mask), expected * mask)
        assert not conv(x, torch.zeros_like(mask)).any()


def attention_inputs() -> tuple:
    """Two images, levels of 3 × 2 and 2 × 1 pixels, 2 heads of 3 channels, 2 queries, 2 points; step 64."""
    torch.manual_seed(0)
    shapes = torch.tensor([[3, 2], [2, 1]])
    value, weights = torch.randn(2, 8, 2, 3, dtype=torch.double), torch.rand(2, 2, 2, 2, 2, dtype=torch.double)
    locations = torch.rand(2, 2, 2, 2, 2, 2, dtype=torch.double) * 1.4 - 0.2
    value, locations, weights = (x.requires_grad_() for x in (value, locations, weights))
    return value, shapes, torch.tensor([0, 6]), locations, weights, 64


def test_deformable_attention_reads_pixels():
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    value = torch.arange(8.0)[None, :, None, None]
    shapes, starts = torch.tensor([[3, 2], [2, 1]]), torch.tensor([0, 6])
    # x and y of pixel centres (1, 2) of the first level and (0, 0) of the second, half a pixel left of (0, 1), and off.
    points = [[[0.75, 5 / 6], [0, 0.5]], [[0.5, 0.25], [-2, 0.5]]]
    locations = torch.tensor(points)[None, None, None]
    weights = torch.tensor([[1.0, 10], [100, 1000]])[None, None, None]
    output = MultiScaleDeformableAttnFunction.apply(value, shapes, starts, locations, weights, 64)
    torch.testing.assert_close(output, torch.tensor([[[5.0 + 10 * 2 / 2 + 100 * 6]]]))


def test_deformable_attention_gradients():
    from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

    assert gradcheck(MultiScaleDeformableAttnFunction.apply, attention_inputs())
    output = MultiScaleDeformableAttnFunction.apply(*attention_inputs())
    halves = [x.bfloat16() if x.is_floating_point() else x for x in attention_inputs()[:5]]
    half = MultiScaleDeformableAttnFunction.apply(*halves, 64)
    assert (half.dtype, half.shape) == (torch.bfloat16, (2, 2, 6))
    torch.testing.assert_close(half.double(), output, rtol=0.1, atol=0.1)
