"""Pictures show what was predicted where it was predicted, at a size to read."""

import numpy as np
import pytest
from PIL import Image

from distill.predict.drawing import Labels, class_color, fitted, font, make_canvas
from distill.predict.outputs import Detection, Segmentation, Shown

GRAY = (120, 120, 120)


def detection(size, boxes, masks=None) -> Detection:
    count = len(boxes)
    shown = Shown(size, source=Image.new('RGB', size, GRAY))
    scores = np.linspace(0.9, 0.5, count, dtype=np.float32)
    return Detection(shown, ['cat', 'dog'], np.float32(boxes).reshape(-1, 4), scores, np.arange(count) % 2, masks)


@pytest.mark.parametrize('scale', [1, 4, 40])
def test_a_box_is_drawn_around_its_object_whatever_the_size(scale):
    size = 40 * scale, 30 * scale
    picture = detection(size, [[10 * scale, 10 * scale, 30 * scale, 20 * scale]]).draw()
    factor = picture.width / size[0]
    pixels = np.asarray(picture)
    in_color = (pixels == class_color(0)).all(axis=2)
    inside = in_color[int(21 * scale * factor) :, :].any(), in_color[:, int(31 * scale * factor) :].any()
    assert inside == (False, False)
    left, right = (int(x * scale * factor) for x in (10, 30))
    row = in_color[int(15 * scale * factor)]
    assert row[left : left + 3].any()
    assert row[right - 3 : right + 1].any()
    assert not row[left + 12 : right - 12].any()


def test_a_mask_colours_its_pixels_and_no_others():
    masks = np.zeros((1, 300, 400), bool)
    masks[0, 100:200, 100:300] = True
    pixels = np.asarray(detection((400, 300), [[100, 100, 300, 200]], masks).draw()).astype(int)
    factor = pixels.shape[1] / 400
    middle, outside = (pixels[int(y * factor), int(x * factor)] for y, x in ((150, 200), (250, 200)))
    assert np.abs(middle - (0.55 * np.array(GRAY) + 0.45 * np.array(class_color(0)))).max() <= 1
    assert tuple(outside) == GRAY


def test_labels_lie_on_the_canvas_and_apart_where_there_is_room():
    labels = Labels(make_canvas(Image.new('RGB', (1000, 1000))))
    placed = [labels.place((left, 0, left + 60, 40), 'cat 0.90')[0] for left in (0, 10, 20, 960)]
    for k, (left, top, right, bottom) in enumerate(placed):
        assert 0 <= left < right <= 1000
        assert 0 <= top < bottom <= 1000
        for other in placed[:k]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_a_text_is_cut_to_one_line_of_a_width():
    assert fitted('cat', 500, 20) == 'cat'
    cut = fitted('a class\nwith a name that does not end' * 3, 200, 20)
    assert cut.endswith('…')
    assert '\n' not in cut
    assert font(20).getlength(cut) <= 200


def test_each_class_has_its_colour_and_the_legend_names_those_that_are_there():
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 30:] = 3
    shown = Shown((60, 40), source=Image.new('RGB', (60, 40), (0, 0, 0)))
    found = Segmentation(shown, ['a', 'b', 'c', 'd'], labels)
    assert found.shares == {'a': 0.5, 'd': 0.5}
    picture = np.asarray(found.draw()).astype(int)
    left, right = picture[100, 100], picture[100, 500]
    for pixel, index in ((left, 0), (right, 3)):
        assert np.abs(pixel - 0.6 * np.array(class_color(index))).max() <= 1
    panel = picture[:, 660:].reshape(-1, 3)
    for index, is_there in ((0, True), (1, False), (3, True)):
        assert (panel == class_color(index)).all(axis=1).any() == is_there


def test_a_label_map_of_more_than_256_classes_has_16_bits():
    labels = np.full((4, 5), 300, np.uint16)
    found = Segmentation(Shown((5, 4), source=Image.new('RGB', (5, 4))), [str(k) for k in range(400)], labels)
    assert np.array_equal(np.asarray(found.label_map()), labels)
    assert found.to_json()['classes'] == [{'id': 300, 'class': '300', 'pixels': 20, 'share': 1.0}]


def test_colours_of_classes_are_all_different():
    assert len({class_color(k) for k in range(150)}) == 150


def test_nothing_found_is_said():
    empty = detection((300, 200), [])
    assert empty.summary() == 'nothing found'
    assert (np.asarray(empty.draw()) != GRAY).any()
