"""Names in any script are drawn in a font that has their letters, or stand in the picture in another way."""

import logging
import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from distill.base import figures, fonts
from distill.predict.drawing import font, legible
from distill.predict.outputs import Segmentation, Shown
from distill.predict.pictures import numbered

NAME, ESCAPED = 'りんご', r'\u308a\u3093\u3054'
WIDTH = 1000


def block() -> object:
    """A letter that is a full square, which no font of the machine has."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, WIDTH), (WIDTH, WIDTH), (WIDTH, 0)):
        pen.lineTo(point)
    pen.closePath()
    return pen.glyph()


@pytest.fixture
def bare_machine(monkeypatch):
    """A machine whose only font is matplotlib's."""
    known = [one for one in font_manager.fontManager.ttflist if one.fname == fonts.house_font()]
    monkeypatch.setattr(font_manager.fontManager, 'ttflist', known)
    for memory in (fonts._font_with, fonts.say_what_is_escaped):
        memory.cache_clear()
    yield monkeypatch
    fonts._font_with.cache_clear()


@pytest.fixture
def machine_with_font(bare_machine, tmp_path) -> str:
    """The same with a font of squares for three letters."""
    builder = FontBuilder(WIDTH, isTTF=True)
    glyphs = ['.notdef', *(f'g{index}' for index in range(len(NAME)))]
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(NAME, glyphs[1:], strict=True)})
    builder.setupGlyf({name: block() for name in glyphs})
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (WIDTH, 0)))
    builder.setupHorizontalHeader(ascent=WIDTH, descent=0)
    builder.setupNameTable({'familyName': 'Squares Sans', 'styleName': 'Regular'})
    builder.setupOS2()
    builder.setupPost()
    path = str(tmp_path / 'squares.ttf')
    builder.save(path)
    entry = font_manager.FontEntry(fname=path, name='Squares Sans')
    bare_machine.setattr(font_manager.fontManager, 'ttflist', [*font_manager.fontManager.ttflist, entry])
    return path


def test_the_house_font_draws_what_it_can():
    for text in ('a cat', 'Äpfel', 'яблоко', 'μῆλον', 'تفاح', 'one\ntwo', ''):
        assert fonts.font_for(text) == fonts.house_font()
        assert legible(text, 3) == text


def test_without_a_font_pictures_have_numbers_and_a_line_says_so(bare_machine):
    assert legible(NAME, 3) == 'class 3'
    assert numbered(['apple', 'яблоко']) is None
    line = numbered(['apple', NAME])
    assert line.startswith(f"no font of this machine has the letters of 1 of 2 names of classes, such as '{NAME}'")
    assert '\n' not in line


def test_a_font_of_the_machine_draws_its_letters(machine_with_font):
    assert fonts.font_for(NAME) == machine_with_font
    # It has no Latin letters: one font draws the whole of a text.
    assert fonts.font_for(f'{NAME} a') is None
    assert legible(NAME, 3) == NAME
    labels = np.zeros((100, 100), np.uint8)
    shown = Shown((100, 100), source=Image.new('RGB', (100, 100)))
    legends = [np.asarray(Segmentation(shown, [name], labels).draw())[:40, 640:, 0] for name in (NAME, 'class 0')]
    size = font(14, NAME).size
    dark = [(legend < 80).sum() for legend in legends]
    assert dark[0] > 2 * size * size > dark[1]  # Three full squares.


def test_names_of_files_on_a_mac_are_put_together(bare_machine):
    assert legible('A\u0308pfel', 0) == 'Äpfel'


def named_figure() -> Figure:
    with figures.house_style():
        figure = Figure()
        axes = figure.add_subplot()
        axes.set_yticks([0, 1], [NAME, 'plain'])
        axes.set_title(f'{NAME} x')
        return figure


def test_figures_write_code_points_and_say_so_once(bare_machine, caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter('error')  # matplotlib's, of a letter that is missing.
        figure = named_figure()
        with figures.house_style():
            first, second = figures.render(figure), figures.render(named_figure())
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [ESCAPED, 'plain']
    assert axes.get_title(loc='left') == f'{ESCAPED} x'
    assert first == second
    assert [NAME in line for line in caplog.messages] == [True, True]


def test_figures_take_the_font_of_the_machine(machine_with_font):
    figure = named_figure()
    with warnings.catch_warnings(), figures.house_style():
        warnings.simplefilter('error')
        figures.render(figure)
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_fontproperties().get_file() for label in labels] == [machine_with_font, None]
    assert labels[0].get_text() == NAME
    assert figure.axes[0].get_title(loc='left') == f'{ESCAPED} x'
