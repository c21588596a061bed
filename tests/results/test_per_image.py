"""mAP and mIoU from what is known of each image: pycocotools' own numbers, hand-computed ones, and intervals."""

import numpy as np
import pytest

from distill.results.per_image import Detections, Regions, paired_bootstrap, read_per_image, write_per_image

ONCE = np.ones((1, 3), dtype=int)


def detections(right: list[bool], score: list[float], image: list[int], objects: list[list[int]]) -> Detections:
    count = len(right)
    matched = np.array(right).reshape(count, 1)
    names = np.array([str(index) for index in range(len(objects))])
    zeros = np.zeros(count, int)
    return Detections(
        names, np.array(image), zeros, np.array(score), matched, np.zeros_like(matched), np.array(objects)
    )


def test_average_precision_by_hand():
    # Right, wrong, right; one of three objects is not found: precision 1 up to a recall of 1/3, then 2/3 up to 2/3.
    found = detections([True, False, True], [0.9, 0.8, 0.7], [0, 1, 2], [[1], [1], [1]])
    assert found.value(ONCE)[0] == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    # Without the image of the wrong detection all that is found is right, of two objects two.
    assert found.value(np.array([[1, 0, 1]]))[0] == pytest.approx(1)
    assert np.isnan(found.value(np.zeros((1, 3), int))[0])


def test_an_ignored_detection_counts_neither_way():
    found = detections([True, True], [0.9, 0.95], [0, 1], [[1], [0]])
    found.ignored[1] = True
    assert found.value(np.array([[1, 1]]))[0] == pytest.approx(1)


def test_mean_iou_by_hand():
    # The second class occurs nowhere and does not count; drawing an image twice doubles its pixels.
    names = np.array(['a', 'b'])
    found = Regions(names, np.array([[2, 0, 1], [0, 0, 3]]), np.array([[4, 0, 2], [4, 0, 4]]))
    assert found.value(np.array([[1, 1]]))[0] == pytest.approx((2 / 8 + 4 / 6) / 2)
    assert found.value(np.array([[2, 1]]))[0] == pytest.approx((4 / 12 + 5 / 8) / 2)


def test_a_model_does_not_differ_from_itself_and_an_equal_loss_everywhere_is_certain(tmp_path):
    draw = np.random.default_rng(0)
    union = draw.integers(50, 100, (40, 3))
    good = Regions(np.arange(40).astype(str), union // 2, union)
    bad = Regions(good.images, union // 4, union)
    write_per_image(tmp_path / 'good.npz', good)
    same = read_per_image(tmp_path / 'good.npz')
    score = paired_bootstrap([same], [good])
    assert (score.value, score.low, score.high) == (0, 0, 0)
    lost = paired_bootstrap([bad], [good])
    assert lost.sign == -1
    assert lost.value == pytest.approx(-25, abs=1)
    assert lost.high - lost.low < 1


def test_only_the_same_images_are_compared(tmp_path):
    one = Regions(np.array(['a']), np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(ValueError, match='only on the same images'):
        paired_bootstrap([one], [Regions(np.array(['b']), np.ones((1, 2)), np.ones((1, 2)))])
    (tmp_path / 'no.npz').write_bytes(b'no')
    with pytest.raises(ValueError, match='holds no scores by image'):
        read_per_image(tmp_path / 'no.npz')
