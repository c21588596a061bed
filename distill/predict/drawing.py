"""What every picture of a prediction is drawn with: colours, type, canvases, labels and panels, at a size to read."""

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from distill.base.figures import GRID, INK, PAPER, SOFT
from distill.base.fonts import composed, font_for, house_font

Color = tuple[int, int, int]
Box = tuple[float, float, float, float]

COLORS: tuple[Color, ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)),
    *((148, 103, 189), (140, 86, 75), (23, 190, 207), (188, 189, 34), (227, 26, 28), (51, 34, 136)),
)
"""Okabe and Ito's colours, which most colour-blind people tell apart, and six more; further ones are made up."""
SMALLEST_PX, LARGEST_PX = 640, 2048
"""The longer side of a drawn image: smaller images are enlarged, larger ones shrunk."""
STACKED = 6
"""How many labels of boxes at one place are put one below the other."""
GOLDEN = 0.618034
"""The golden ratio's fraction: hues that far apart stay apart however many there are."""


@cache
def class_color(index: int) -> Color:
    """The colour of a class by its place, the same in every picture."""
    if index < len(COLORS):
        return COLORS[index]
    lightness = (0.42, 0.62, 0.52)[index % 3]
    red, green, blue = colorsys.hls_to_rgb(index * GOLDEN % 1, lightness, 0.75)
    return round(255 * red), round(255 * green), round(255 * blue)


def ink_on(color: Color) -> Color:
    """Black or white, whichever is easier to read on a colour."""
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else (255, 255, 255)


def font(size_px: int, text: str = '') -> ImageFont.FreeTypeFont:
    """The report's type, DejaVu Sans, or for a text with letters that it lacks a font of the machine that has them."""
    return _face(font_for(text) or house_font(), size_px)


@cache
def _face(path: str, size_px: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size_px)


def legible(name: str, index: int) -> str:
    """The name of a class; its number in ``predictions.json`` where no font of this machine has its letters."""
    name = composed(name)
    return name if font_for(name) else f'class {index}'


@dataclass(frozen=True)
class Canvas:
    """An image at a size at which type and lines can be read.

    Attributes:
        image: The image, enlarged or shrunk, with a margin where it is too narrow for a label.
        scale: Pixels of the canvas for one of the image, across and down.
        corner: Where the image begins.
        size: Width and height of the image on the canvas.
        type_px: Size of the type.
    """

    image: Image.Image
    scale: tuple[float, float]
    corner: tuple[int, int]
    size: tuple[int, int]
    type_px: int

    @property
    def line_px(self) -> int:
        """Width of lines."""
        return max(2, round(self.type_px / 7))

    def box(self, box: Sequence[float]) -> Box:
        """Where a box of the image lies."""
        (across, down), (left, top) = self.scale, self.corner
        return left + box[0] * across, top + box[1] * down, left + box[2] * across, top + box[3] * down


def make_canvas(image: Image.Image, least: tuple[int, int] = (0, 0), draw: Callable | None = None) -> Canvas:
    """An image at a size to draw on.

    Args:
        image: RGB.
        least: Width and height of the canvas at the least, in sizes of the type; a narrow image gets a margin.
        draw: Changes the image at its new size, before the margin comes.
    """
    longer = max(image.size)
    factor = max(SMALLEST_PX / longer, 1) if longer < SMALLEST_PX else min(LARGEST_PX / longer, 1)
    width, height = (max(1, round(side * factor)) for side in image.size)
    # Pixels of a tiny image are shown as what they are.
    way = Image.Resampling.NEAREST if factor >= 4 else Image.Resampling.LANCZOS
    resized = image.resize((width, height), way) if factor != 1 else image.copy()
    if draw is not None:
        resized = draw(resized)
    type_px = min(max(round(max(width, height) / 58), 14), 36)
    across, down = max(width, least[0] * type_px), max(height, least[1] * type_px)
    corner = (across - width) // 2, (down - height) // 2
    if (across, down) != (width, height):
        whole = Image.new('RGB', (across, down), GRID)
        whole.paste(resized, corner)
        resized = whole
    return Canvas(resized, (width / image.width, height / image.height), corner, (width, height), type_px)


def fitted(text: str, width_px: float, size_px: int) -> str:
    """A text on one line, cut so that it is no longer than a width."""
    text = composed(' '.join(text.split()))
    face = font(size_px, text)
    if face.getlength(text) <= width_px:
        return text
    while text and face.getlength(text + '…') > width_px:
        text = text[:-1]
    return text + '…'


class Labels:
    """The labels of boxes, each placed where it covers none of those before."""

    def __init__(self, canvas: Canvas):
        self.canvas, self.placed = canvas, list[Box]()
        self.pad = max(2, canvas.type_px // 5)

    def place(self, box: Box, text: str) -> tuple[Box, str]:
        """Find a place at a box: over it, under it, inside it; moved so that the label lies on the canvas.

        Returns:
            The label's box, and its text, cut if it is longer than the canvas.
        """
        width, height = self.canvas.image.size
        text = fitted(text, width - 2 * self.pad, self.canvas.type_px)
        across = font(self.canvas.type_px, text).getlength(text) + 2 * self.pad
        down = self.canvas.type_px + 2 * self.pad
        left, top, right, bottom = box
        places = [(left, top - down), (left, top), (left, bottom), (left, bottom - down)]
        places += [(right - across, top - down), (right - across, bottom - down)]
        places += [(left, top + row * down) for row in range(1, STACKED)]
        inside = [(min(max(x, 0), max(width - across, 0)), min(max(y, 0), max(height - down, 0))) for x, y in places]
        boxes = [(x, y, x + across, y + down) for x, y in inside]
        best = min(boxes, key=lambda one: sum(_overlap(one, other) for other in self.placed))
        self.placed.append(best)
        return best, text

    def draw(self, pen: ImageDraw.ImageDraw, label: Box, text: str, color: Color) -> None:
        """Draw a label on its colour."""
        pen.rectangle(label, fill=color)
        middle = label[0] + self.pad, (label[1] + label[3]) / 2
        pen.text(middle, text, fill=ink_on(color), font=font(self.canvas.type_px, text), anchor='lm')


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


@dataclass(frozen=True)
class Row:
    """A line of a panel.

    Attributes:
        text: What stands there.
        value: What stands at its end.
        color: Of its swatch or bar.
        share: Length of its bar from 0 to 1; None for a swatch before the text and no bar.
    """

    text: str
    value: str
    color: Color
    share: float | None = None


def with_panel(canvas: Canvas, rows: Sequence[Row], more: str = '') -> Image.Image:
    """Put a panel of rows beside an image, or under an image that is wide.

    Args:
        canvas: The image.
        rows: From top to bottom.
        more: A last line, in gray.
    """
    image, size = canvas.image, canvas.type_px
    under = image.width > 1.7 * image.height
    has_bars = any(row.share is not None for row in rows)
    step = round(size * (2.5 if has_bars else 1.7))
    pad = size
    lines = len(rows) + bool(more)
    widest = max((font(size, row.text).getlength(' '.join(row.text.split())) for row in rows), default=0)
    wanted = max(16 * size, min(widest + 9 * size, 28 * size))
    columns = max(1, int((image.width - pad) // (wanted + pad))) if under and not has_bars else 1
    columns = min(columns, max(1, lines))
    column = (image.width - pad * (columns + 1)) / columns if under and columns > 1 else wanted
    deep = -(-lines // columns) * step + 2 * pad
    if under:
        whole = Image.new('RGB', (max(image.width, round(column * columns + pad * (columns + 1))), image.height + deep))
        area = 0, image.height, whole.width, whole.height
    else:
        whole = Image.new('RGB', (image.width + round(column + 2 * pad), max(image.height, deep)))
        area = image.width, 0, whole.width, whole.height
    pen = ImageDraw.Draw(whole)
    pen.rectangle((0, 0, *whole.size), fill=PAPER)
    whole.paste(image, (0, 0))
    rows_each = -(-lines // columns)
    for place in range(lines):
        x = area[0] + pad + (place // rows_each) * (column + pad)
        y = area[1] + pad + (place % rows_each) * step
        if place < len(rows):
            _draw_row(pen, rows[place], x, y, column, size)
        else:
            pen.text((x, y + size * 0.7), fitted(more, column, size), fill=SOFT, font=font(size), anchor='lm')
    return whole


def _draw_row(pen: ImageDraw.ImageDraw, row: Row, x: float, y: float, width: float, size: int) -> None:
    face, middle = font(size), y + size * 0.7
    taken = face.getlength(row.value) + size * 0.5
    start = x
    if row.share is None:
        pen.rectangle((x, y, x + size * 1.2, y + size * 1.3), fill=row.color, outline=SOFT)
        start = x + size * 1.8
    text = fitted(row.text, width - (start - x) - taken, size)
    pen.text((start, middle), text, fill=INK, font=font(size, text), anchor='lm')
    pen.text((x + width, middle), row.value, fill=INK, font=face, anchor='rm')
    if row.share is not None:
        top, bottom = y + size * 1.45, y + size * 1.95
        pen.rectangle((x, top, x + width, bottom), fill=GRID)
        if row.share > 0:
            pen.rectangle((x, top, x + max(1.0, width * row.share), bottom), fill=row.color)
