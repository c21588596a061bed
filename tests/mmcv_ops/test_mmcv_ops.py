"""Stand-ins for mmcv's compiled operators: the module that holds them, and the operators on boxes."""

import math
import subprocess
import sys

import pytest
import torch
import torchvision

pytest.importorskip('mmcv')

import cv2
import mmcv

from backbones.mmcv_ops import install
from backbones.mmcv_ops.extension import OPS

install()

OPERATORS = """nms softnms nms_match bbox_overlaps box_iou_rotated nms_rotated
    roi_align_forward roi_align_backward roi_pool_forward roi_pool_backward
    deform_conv_forward deform_conv_backward_input deform_conv_backward_parameters
    modulated_deform_conv_forward modulated_deform_conv_backward masked_im2col_forward masked_col2im_forward
    ms_deform_attn_forward ms_deform_attn_backward sigmoid_focal_loss_forward sigmoid_focal_loss_backward
    softmax_focal_loss_forward softmax_focal_loss_backward"""


# ---------------------------------------------------------------------------------------------------------------
# The module


def test_import_is_silent_and_mmcv_finds_its_operators():
    code = 'import sys; from backbones.mmcv_ops import install; install(); import mmcv.ops; '
    code += 'from mmengine.utils.dl_utils import misc; assert misc.mmcv_full_available(); '
    code += 'assert not {"mmdet", "mmseg"} & sys.modules.keys()'
    done = subprocess.run([sys.executable, '-W', 'error::UserWarning', '-c', code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_install_is_idempotent():
    before = sys.modules['mmcv._ext']
    assert install()
    assert sys.modules['mmcv._ext'] is before


def test_install_leaves_compiled_operators_alone(tmp_path, monkeypatch):
    (tmp_path / '_ext.py').write_text('')
    monkeypatch.setattr(mmcv, '__path__', [*mmcv.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    assert not install()
    assert 'mmcv._ext' not in sys.modules


@pytest.mark.parametrize('name', OPERATORS.split())
def test_operator_has_a_stand_in(name):
    assert name in {op.__name__ for op in OPS}
    assert getattr(sys.modules['mmcv._ext'], name) in OPS


def test_missing_operator_says_which():
    from mmcv.ops import nms_quadri

    with pytest.raises(NotImplementedError, match=r'nms_quadri.*no model of mmdet.*install'):
        nms_quadri(torch.rand(2, 8), torch.rand(2), 0.5)


# ---------------------------------------------------------------------------------------------------------------
# Boxes


def test_nms_counts_pixels_or_lengths():
    from mmcv.ops import nms

    # Lengths: 9 × 4 shared of 2 × 81 - 36, IoU 0.286. Pixels: 10 × 5 shared of 2 × 100 - 50, IoU 0.333.
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 5, 9, 14]])
    scores = torch.tensor([0.4, 0.6])
    assert nms(boxes, scores, 0.3, offset=0)[1].tolist() == [1, 0]
    assert nms(boxes, scores, 0.3, offset=1)[1].tolist() == [1]
    assert nms(boxes.half(), scores, 0.3, offset=1)[1].tolist() == [1]


def test_nms_compares_in_single_precision():
    from mmcv.ops import nms

    # 6 shared of 2 × 13 - 6: the nearest single-precision number to 0.3, which is above the nearest double.
    boxes = torch.tensor([[0.0, 0, 13, 1], [7, 0, 20, 1]])
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.3)[1].tolist() == [0, 1]
    assert nms(boxes, torch.tensor([0.9, 0.8]), 0.29)[1].tolist() == [0]


@pytest.mark.parametrize(
    ('method', 'scores'),
    [
        ('naive', [0.8, 0.6]),
        ('linear', [0.8, 0.6, 0.7 * 0.5]),
        # IoU of the neighbour 1/2, of the distant box 0: the factors are exp(-1/4 / 0.5) and 1.
        ('gaussian', [0.8, 0.6, 0.7 * math.exp(-0.5)]),
    ],
)
def test_soft_nms_decays_neighbours(method, scores):
    from mmcv.ops import soft_nms

    boxes = torch.tensor([[0.0, 0, 4, 2], [0, 0, 4, 4], [20, 20, 24, 24]])
    dets, indices = soft_nms(
        boxes, torch.tensor([0.7, 0.8, 0.6]), iou_threshold=0.4, sigma=0.5, min_score=0.01, method=method
    )
    assert indices.tolist() == [1, 2, 0][: len(scores)]
    torch.testing.assert_close(dets[:, 4], torch.tensor(scores))
    torch.testing.assert_close(dets[:, :4], boxes[indices])


def test_soft_nms_of_equal_scores_keeps_the_order_of_the_compiled_operator():
    from mmcv.ops import soft_nms

    # Distant boxes of one score, and one that goes at once: the last takes its place, as in mmcv's loop.
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [10, 0, 12, 2], [20, 0, 22, 2], [30, 0, 32, 2]])
    dets, indices = soft_nms(boxes, torch.full((5,), 0.5), iou_threshold=0.3, method='naive')
    assert indices.tolist() == [0, 4, 2, 3]
    torch.testing.assert_close(dets[:, :4], boxes[[0, 4, 2, 3]])


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
def test_soft_nms_of_boxes_without_area(method):
    from mmcv.ops import soft_nms

    dets, indices = soft_nms(torch.ones(3, 4), torch.tensor([0.5, 0.9, 0.0]), method=method)
    assert indices.tolist() == [1, 0]
    assert dets[:, 4].tolist() == pytest.approx([0.9, 0.5])
    assert len(soft_nms(torch.zeros(0, 4), torch.zeros(0), method=method)[1]) == 0


def test_nms_match_says_where_boxes_went():
    from mmcv.ops import nms_match

    dets = [[0.0, 0, 4, 4, 0.6], [20, 20, 24, 24, 0.7], [0, 0, 4, 4, 0.9], [0, 0, 4, 2, 0.8], [20, 20, 24, 23, 0.7]]
    groups = nms_match(torch.tensor(dets), 0.5)  # reached, not passed: the fourth's IoU is 1 / 2
    assert [group.tolist() for group in groups] == [[2, 3, 0], [1, 4]]


def test_suppression_of_lanes():
    def lane(start: float, rows: int, x: float) -> torch.Tensor:
        return torch.cat([torch.tensor([0, 0, start, 0, rows]), torch.full((72,), x)])

    # Lanes 10 pixels apart, far away, 10 apart in the lower half only, and one that ends where the fourth begins.
    lanes = torch.stack([lane(0, 72, 100), lane(0, 72, 110), lane(0, 72, 400), lane(0.5, 36, 120), lane(0, 20, 140)])
    suppress = sys.modules['mmcv._ext'].line_nms_forward
    scores = torch.tensor([0.5, 0.9, 0.7, 0.6, 0.8])
    keep, count, parents = suppress(lanes, scores, 15, 5)
    assert keep[:count].tolist() == [1, 4, 2]
    assert parents.tolist() == [1, 1, 3, 1, 2]
    keep, count, _ = suppress(lanes, scores, 15, 2)
    assert keep.tolist() == [1, 4, 0, 0, 0]
    assert count == 2
    assert suppress(lanes, scores, 35, 5)[0].tolist() == [1, 2, 0, 0, 0]
    assert suppress(lanes[:0], scores[:0], 15, 5)[1] == 0


def test_overlaps():
    from mmcv.ops import bbox_overlaps

    a, b = torch.tensor([[0.0, 0, 4, 2], [0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 4], [2, 0, 6, 2], [7, 7, 8, 8]])
    torch.testing.assert_close(bbox_overlaps(a, b), torch.tensor([[4 / 12, 4 / 12, 0], [4 / 8, 0, 0]]))
    torch.testing.assert_close(bbox_overlaps(a, b), torchvision.ops.box_iou(a, b))
    torch.testing.assert_close(bbox_overlaps(a, b, 'iof'), torch.tensor([[4 / 8, 4 / 8, 0], [4 / 4, 0, 0]]))
    # Pixels: 3 × 3 shared of 5 × 3 and 3 × 5, and 1 × 3 of 3 × 3 and 5 × 3.
    torch.testing.assert_close(bbox_overlaps(a, b[:2], aligned=True, offset=1), torch.tensor([9 / 21, 3 / 21]))
    assert bbox_overlaps(a.half(), b.half()).dtype == torch.half


def random_rotated(n: int) -> torch.Tensor:
    """Boxes of 0.5 to 15 pixels, angles of more than a turn, and one box in four at right angles on whole pixels."""
    boxes = torch.rand(n, 5) * torch.tensor([20, 20, 14.5, 14.5, 9]) + torch.tensor([0, 0, 0.5, 0.5, -4])
    boxes[::4] = boxes[::4].round() + torch.tensor([0, 0, 1, 1, 0])
    boxes[::4, 4] *= math.pi / 2
    return boxes


def test_overlaps_of_rotated_boxes_by_hand():
    from mmcv.ops import box_iou_rotated

    square = torch.tensor([[5.0, 5, 2, 2, 0]])
    others = [
        [5, 5, 2, 2, math.pi / 4],
        [5, 5, 2, 2, math.pi / 2],
        [6, 5, 2, 2, 0],
        [7, 5, 2, 2, 0],
        [5, 5, 4, 1, math.pi],
    ]
    octagon = 8 * (math.sqrt(2) - 1)
    expected = [octagon / (8 - octagon), 1, 1 / 3, 0, 2 / 6]
    torch.testing.assert_close(box_iou_rotated(square, torch.tensor(others)), torch.tensor([expected]))
    iof = box_iou_rotated(torch.tensor(others), square, mode='iof')[:, 0]
    torch.testing.assert_close(iof, torch.tensor([octagon / 4, 1, 1 / 2, 0, 1 / 2]))
    # Angles run from x to y: a bar at 45° reaches (3, 3), not (3, -3).
    bar, corner = torch.tensor([[0.0, 0, 10, 1, math.pi / 4]]), torch.tensor([[3.0, 3, 0.1, 0.1, 0]])
    assert box_iou_rotated(corner, bar, mode='iof').item() == pytest.approx(1)
    assert box_iou_rotated(corner, bar, mode='iof', clockwise=False).item() == 0
    assert box_iou_rotated(torch.zeros(1, 5), bar).item() == 0
    assert box_iou_rotated(torch.zeros(0, 5), bar).shape == (0, 1)


def test_overlaps_of_rotated_boxes_are_those_of_opencv():
    from mmcv.ops import box_iou_rotated

    torch.manual_seed(0)
    a, b = random_rotated(200), random_rotated(200)
    expected = []
    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        shapes = [((x, y), (w, h), math.degrees(angle)) for x, y, w, h, angle in (one, other)]
        points = cv2.rotatedRectangleIntersection(*shapes)[1]
        shared = 0 if points is None else cv2.contourArea(cv2.convexHull(points))
        expected.append(shared / (one[2] * one[3] + other[2] * other[3] - shared))
    found = box_iou_rotated(a, b, aligned=True)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-3, atol=1e-3)
    assert (found > 0.05).sum() > 40
    torch.testing.assert_close(box_iou_rotated(a, b).diagonal(), found)
    # The same far from the origin, where single precision has steps of 1 / 128.
    far = torch.tensor([1e5, 1e5, 0, 0, 0])
    torch.testing.assert_close(box_iou_rotated(a + far, a + far, aligned=True), torch.ones(200))


def test_nms_of_rotated_boxes():
    from mmcv.ops import batched_nms, nms_rotated

    half_turn, tilted = [5.0, 5, 4, 2, math.pi], [5.0, 5, 4, 2, 0.1]
    boxes = torch.tensor([tilted, [50, 50, 4, 2, 1], [5, 5, 4, 2, 0], half_turn, [5, 5, 2, 4, 0]])
    scores = torch.tensor([0.7, 0.6, 0.9, 0.8, 0.5])
    dets, kept = nms_rotated(boxes, scores, 0.4)  # the last one crosses the best: 4 of 12
    assert kept.tolist() == [2, 1, 4]
    torch.testing.assert_close(dets, torch.cat((boxes, scores[:, None]), 1)[kept])
    config = dict(type='nms_rotated', iou_threshold=0.4)
    assert batched_nms(boxes, scores, torch.tensor([0, 0, 0, 1, 0]), config)[1].tolist() == [2, 3, 1, 4]
