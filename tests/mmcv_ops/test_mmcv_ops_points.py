"""Stand-ins for mmcv's compiled operators that sample between pixels, reassemble features or lay out attention."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

pytest.importorskip('mmcv')

import backbones.openmmlab  # noqa: F401 - installs the stand-ins


def wave(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A tensor of different values."""
    return (torch.arange(math.prod(shape), dtype=dtype) * 0.7).sin().reshape(shape)


def ramp(height: int, width: int) -> torch.Tensor:
    """A map [1, 1, H, W] whose bilinear samples tell where they were taken: x + 100 y."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing='ij')
    return (x + 100 * y)[None, None]


# ---------------------------------------------------------------------------------------------------------------
# RoIs


@pytest.mark.parametrize('ratio', [0, 2])
def test_rotated_roi_align_without_rotation_is_roi_align(ratio):
    from mmcv.ops import roi_align, roi_align_rotated

    maps = wave(2, 3, 12, 14)
    corners = torch.tensor([[0, 2.2, 3.1, 17.5, 20.9], [1, 4.0, 1.0, 9.0, 19.0]], dtype=torch.float64)
    centres = torch.cat([corners[:, :1], (corners[:, 1:3] + corners[:, 3:]) / 2, corners[:, 3:] - corners[:, 1:3]], 1)
    straight = torch.cat([centres, torch.zeros(2, 1)], dim=1)
    found = roi_align_rotated(maps, straight, (3, 4), 0.5, ratio, True, False)
    torch.testing.assert_close(found, roi_align(maps, corners, (3, 4), 0.5, ratio, 'avg', True))


def test_rotated_roi_align_turns_with_the_box():
    from mmcv.ops import roi_align_rotated

    maps = ramp(20, 20)
    # A box of 8 × 4 around (9, 9), turned by a right angle: what runs along x in the box runs along y in the map.
    roi = torch.tensor([[0, 9.5, 9.5, 8, 4, math.pi / 2]])
    turned = roi_align_rotated(maps, roi, (2, 2), 1.0, 1, True, False)[0, 0]
    # Bin centres lie at ±2 along the box's x and at ±1 along its y. y' = −x sin, x' = y sin.
    centre = 909.0
    torch.testing.assert_close(turned, centre + torch.tensor([[-1 + 200.0, -1 - 200.0], [1 + 200.0, 1 - 200.0]]))
    clockwise = roi_align_rotated(maps, roi, (2, 2), 1.0, 1, True, True)[0, 0]
    torch.testing.assert_close(clockwise, centre + torch.tensor([[1 - 200.0, 1 + 200.0], [-1 - 200.0, -1 + 200.0]]))


@pytest.mark.parametrize('aligned', [True, False])
def test_rotated_roi_align_gradient(aligned):
    from mmcv.ops import roi_align_rotated

    rois = torch.tensor([[0, 6.2, 5.1, 7.3, 4.2, 0.4], [1, 3.3, 8.0, 12.0, 9.0, -1.1]], dtype=torch.float64)
    maps = wave(2, 2, 8, 9).requires_grad_()
    assert gradcheck(lambda x: roi_align_rotated(x, rois, (2, 3), 0.8, 0, aligned, False), maps)


def test_deformable_roi_pooling_shifts_each_bin():
    from mmcv.ops import deform_roi_pool, roi_align

    maps = ramp(24, 24)
    roi = torch.tensor([[0, 6.0, 4.0, 14.0, 16.0]])
    plain = deform_roi_pool(maps, roi, None, (2, 2), 1.0, 2, 0.1)
    torch.testing.assert_close(plain, roi_align(maps, roi, (2, 2), 1.0, 2, 'avg', True))
    offset = torch.zeros(1, 2, 2, 2)
    offset[0, 0, 0, 1], offset[0, 1, 1, 0] = 1.0, 2.0
    # A tenth of the width (8), and two tenths of the height (12).
    moved = torch.tensor([[0, 0.8], [2.4 * 100, 0]])
    torch.testing.assert_close(deform_roi_pool(maps, roi, offset, (2, 2), 1.0, 2, 0.1), plain + moved)


def test_deformable_roi_pooling_gradients():
    from mmcv.ops import deform_roi_pool

    rois = torch.tensor([[0, 2.2, 3.1, 13.5, 14.9], [1, 4.1, 3.0, 9.3, 15.0]], dtype=torch.float64)
    maps, offset = wave(2, 2, 10, 10).requires_grad_(), (0.5 * wave(2, 2, 2, 3)).requires_grad_()
    assert gradcheck(lambda x, o: deform_roi_pool(x, rois, o, (2, 3), 0.5, 2, 0.1), (maps, offset))


def test_border_align_takes_the_largest_sample_of_each_border():
    from mmcv.ops import border_align

    peaks = torch.zeros(1, 4, 10, 10)
    # On the top, left, bottom and right border of the box (2, 1) to (6, 5), and one peak inside it that none sees.
    for channel, (row, column) in enumerate([(1, 4), (3, 2), (5, 3), (2, 6)]):
        peaks[0, channel, row, column] = channel + 1.0
        peaks[0, channel, 3, 4] = 9.0
    boxes = torch.tensor([[[2.0, 1.0, 6.0, 5.0]]])
    assert border_align(peaks, boxes, 4).tolist() == [[[[1.0, 2.0, 3.0, 4.0]]]]
    # With two steps a border is seen at its ends and in the middle only.
    assert border_align(peaks, boxes, 2).tolist() == [[[[1.0, 2.0, 0.0, 0.0]]]]


def test_border_align_gradient():
    from mmcv.ops import border_align

    maps = wave(2, 8, 9, 11).requires_grad_()
    boxes = torch.tensor([[[1.2, 0.7, 6.1, 5.3], [0.1, 2.2, 9.8, 3.9]], [[2.0, 2.0, 2.4, 7.7], [5.0, 1.0, 8.6, 6.2]]])
    assert gradcheck(lambda x: border_align(x, boxes.double(), 5), maps)


# ---------------------------------------------------------------------------------------------------------------
# Reassembly and attention


@pytest.mark.parametrize(('kernel', 'groups', 'scale'), [(3, 1, 2), (5, 2, 2), (1, 2, 3)])
def test_carafe_is_a_weighted_sum_of_the_pixels_around(kernel, groups, scale):
    from mmcv.ops import carafe

    features, masks = wave(2, 4, 5, 6), wave(2, groups * kernel**2, 5 * scale, 6 * scale)
    around = F.unfold(features, kernel, padding=kernel // 2).view(2, groups, 4 // groups, kernel**2, 5, 6)
    around = around.repeat_interleave(scale, 4).repeat_interleave(scale, 5)
    expected = (around * masks.view(2, groups, 1, kernel**2, 5 * scale, 6 * scale)).sum(dim=3).flatten(1, 2)
    torch.testing.assert_close(carafe(features, masks, kernel, groups, scale), expected)


def test_carafe_gradients():
    from mmcv.ops import carafe

    features, masks = wave(2, 4, 3, 4).requires_grad_(), wave(2, 2 * 9, 6, 8).requires_grad_()
    assert gradcheck(lambda x, m: carafe(x, m, 3, 2, 2), (features, masks))


@pytest.mark.parametrize('psa_type', ['collect', 'distribute'])
def test_psamask_lays_attention_out_over_the_map(psa_type):
    from mmcv.ops import PSAMask

    height, width, rows, columns = 4, 5, 5, 7
    attention = wave(2, rows * columns, height, width)
    expected = torch.zeros(2, height, width, height, width, dtype=torch.float64)
    for y, x in ((y, x) for y in range(height) for x in range(width)):
        for i, j in ((i, j) for i in range(rows) for j in range(columns)):
            row, column = y + i - rows // 2, x + j - columns // 2
            if 0 <= row < height and 0 <= column < width:
                place = (row, column, y, x) if psa_type == 'collect' else (y, x, row, column)
                expected[(slice(None), *place)] = attention[:, i * columns + j, y, x]
    found = PSAMask(psa_type, (rows, columns))(attention)
    torch.testing.assert_close(found, expected.view(2, height * width, height, width))
    assert gradcheck(PSAMask(psa_type, (3, 5)), wave(1, 15, 3, 4).requires_grad_())


# ---------------------------------------------------------------------------------------------------------------
# Deformable convolutions whose offsets are larger than the output


def test_offsets_larger_than_the_output_are_read_from_the_front():
    from mmcv.ops import modulated_deform_conv2d

    maps, weight = wave(2, 3, 8, 8), wave(4, 3, 3, 3)
    offset, mask = 0.3 * wave(2, 18, 8, 8), wave(2, 9, 8, 8).sigmoid()
    out = 4
    read = [x.flatten(1)[:, : x.shape[1] * out**2].view(2, -1, out, out) for x in (offset, mask)]
    large = [x.clone().requires_grad_() for x in (maps, offset, mask, weight)]
    small = [x.clone().requires_grad_() for x in (maps, *read, weight)]
    results = [modulated_deform_conv2d(*x, None, 2, 1, 1, 1, 1) for x in (large, small)]
    torch.testing.assert_close(*results)
    assert results[0].shape[2:] == (out, out)
    for result in results:
        (result * wave(*result.shape)).sum().backward()
    torch.testing.assert_close([large[0].grad, large[3].grad], [small[0].grad, small[3].grad])
    for whole, part in zip(large[1:3], small[1:3], strict=True):
        count = part[0].numel()
        torch.testing.assert_close(whole.grad.flatten(1)[:, :count], part.grad.flatten(1))
        assert whole.grad.flatten(1)[:, count:].abs().sum() == 0
    with pytest.raises(ValueError, match='give at least as many'):
        modulated_deform_conv2d(maps, *(x[:, :, :2, :2].contiguous() for x in (offset, mask)), weight, None, 2, 1)
