"""The picture of each kind of prediction: classes beside a photo, boxes and masks on it, the colours of its parts."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from distill.base.figures import short
from distill.base.fonts import ADVICE, unreadable
from distill.predict.drawing import (
    LARGEST_PX,
    Canvas,
    Color,
    Labels,
    Row,
    class_color,
    legible,
    make_canvas,
    with_panel,
)
from distill.predict.outputs import Classification, Detection, Segmentation, percent

FIRST, OTHERS = (0, 114, 178), (86, 180, 233)
"""Colours of the bars of the most probable class and of the others."""
MASK_ALPHA, LABEL_ALPHA = 0.45, 0.6
LEGEND_ROWS = 24
EDGE = (20, 20, 20)
"""Colour of the thin line around boxes, which keeps them visible on any background."""
NOTHING = (138, 141, 145)


def numbered(names: Sequence[str]) -> str | None:
    """A line about the classes that pictures call by their numbers, because no font of this machine draws the names."""
    if not (lost := unreadable(names)):
        return None
    return (
        f'no font of this machine has the letters of {len(lost)} of {len(names)} names of classes, such as '
        f"'{lost[0]}': pictures show their numbers; {ADVICE}"
    )


def draw_classification(image: Image.Image, prediction: Classification) -> Image.Image:
    """A photo, and beside it the most probable classes with bars."""
    canvas = make_canvas(image, least=(14, 4))
    if not prediction.is_finite:
        return with_panel(canvas, [], 'no decision: the logits are not finite')
    rows = [
        Row(legible(one.title, one.index), percent(one.probability), OTHERS if place else FIRST, one.probability)
        for place, one in enumerate(prediction.top)
    ]
    return with_panel(canvas, rows)


def draw_detection(image: Image.Image, prediction: Detection) -> Image.Image:
    """A photo with boxes, the name and score of each, and masks if the model makes some."""
    colors = [class_color(int(label)) for label in prediction.labels]

    def add_masks(resized: Image.Image) -> Image.Image:
        if prediction.masks is None:
            return resized
        pixels = np.asarray(resized).astype(np.float32)
        for mask, color in reversed(list(zip(prediction.masks, colors, strict=True))):
            shape = np.asarray(Image.fromarray(mask).resize(resized.size, Image.Resampling.NEAREST), bool)
            pixels[shape] = (1 - MASK_ALPHA) * pixels[shape] + MASK_ALPHA * np.array(color, np.float32)
            pixels[shape & ~_inner(shape)] = color
        return Image.fromarray(pixels.round().astype(np.uint8))

    canvas = make_canvas(image, least=(12, 5), draw=add_masks)
    pen = ImageDraw.Draw(canvas.image)
    labels = Labels(canvas)
    boxes = [canvas.box(box) for box in prediction.boxes.tolist()]
    names = [
        f'{short(legible(prediction.classes[label], label))} {score:.2f}'
        for label, score in zip(prediction.labels.tolist(), prediction.scores.tolist(), strict=True)
    ]
    # The surest object chooses the place of its label first, and is drawn last.
    placed = [labels.place(box, name) for box, name in zip(boxes, names, strict=True)]
    for box, color in reversed(list(zip(boxes, colors, strict=True))):
        _outline(pen, canvas, box, color)
    for (label, text), color in reversed(list(zip(placed, colors, strict=True))):
        labels.draw(pen, label, text, color)
    if not boxes:
        labels.draw(pen, *labels.place((canvas.corner[0], canvas.corner[1], 0, 0), 'nothing found'), NOTHING)
    return canvas.image


def _outline(pen: ImageDraw.ImageDraw, canvas: Canvas, box: tuple[float, ...], color: Color) -> None:
    """A box in its colour with a thin dark line on either side; a box without an area is a line or a point."""
    left, top, right, bottom = box[0], box[1], max(box[0], box[2]), max(box[1], box[3])
    width = canvas.line_px
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=EDGE, width=width + 2)
    pen.rectangle((left, top, right, bottom), outline=color, width=width)


def _inner(shape: np.ndarray) -> np.ndarray:
    """The pixels of a mask whose four neighbours are in it too."""
    padded = np.pad(shape, 1)
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def draw_segmentation(image: Image.Image, prediction: Segmentation) -> Image.Image:
    """A photo with each class in its colour, and a legend of those that are there with their shares."""
    labels = prediction.labels

    def add_labels(resized: Image.Image) -> Image.Image:
        map_image = Image.fromarray(labels.astype(np.int32)).resize(resized.size, Image.Resampling.NEAREST)
        shown = np.asarray(map_image)
        colors = np.array([class_color(index) for index in range(int(shown.max(initial=0)) + 1)], np.float32)
        pixels = (1 - LABEL_ALPHA) * np.asarray(resized, np.float32) + LABEL_ALPHA * colors[shown]
        pixels[_borders(shown, thick=max(resized.size) > LARGEST_PX // 2)] = EDGE
        return Image.fromarray(pixels.round().astype(np.uint8))

    canvas = make_canvas(image, least=(14, 4), draw=add_labels)
    present = list(prediction.pixels.items())
    rows = [
        Row(legible(prediction.class_name(index), index), percent(count / labels.size), class_color(index))
        for index, count in present[:LEGEND_ROWS]
    ]
    left = len(present) - len(rows)
    return with_panel(canvas, rows, f'and {left} more' if left else '')


def _borders(labels: np.ndarray, thick: bool) -> np.ndarray:
    """The pixels whose right or lower neighbour has another label, and with ``thick`` that neighbour too."""
    borders = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    borders[:, :-1] |= across
    borders[:-1] |= down
    if thick:
        borders[:, 1:] |= across
        borders[1:] |= down
    return borders
