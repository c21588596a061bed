"""The look of every figure of this project, and how a figure becomes SVG and PNG: matplotlib without a display."""

import contextlib
import io
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from distill.base.fonts import composed, escaped, font_for, house_font, say_what_is_escaped

PALETTE = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#8A8D91')
"""Okabe and Ito's colours, which colour-blind readers tell apart, without the yellow and the black that vanish on a
light and on a dark page."""
INK, SOFT, GRID, PAPER = '#24292e', '#636c75', '#d5dae0', '#fefefe'
DARK = {INK: '#e6eaee', SOFT: '#9aa4ad', GRID: '#363d45', PAPER: '#161b21'}
"""What the inks become on a dark page. Data keeps its colours."""
HEAT_COLORS = 'cividis'
"""A perceptually uniform map that colour-blind readers see the same way."""

STYLE = {
    'font.family': 'DejaVu Sans',
    'font.size': 9,
    'text.color': INK,
    'text.parse_math': False,  # A run may be called $x$.
    'axes.edgecolor': GRID,
    'axes.facecolor': PAPER,
    'axes.grid': True,
    'axes.axisbelow': True,
    'axes.labelcolor': SOFT,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.titlesize': 9.5,
    'axes.titlelocation': 'left',
    'figure.facecolor': PAPER,
    'grid.color': GRID,
    'grid.linewidth': 0.6,
    'legend.frameon': False,
    'savefig.facecolor': PAPER,
    'svg.fonttype': 'path',
    'svg.hashsalt': 'report',  # The same input gives the same ids.
    'xtick.color': SOFT,
    'ytick.color': SOFT,
    'xtick.major.size': 0,
    'ytick.major.size': 0,
}
PNG_DPI = 144
LABEL_LENGTH = 24
"""Characters of a name in a legend that has room."""


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Draw the figures of a block in this style, and not in that of the user's matplotlib settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def render(figure: Figure) -> tuple[str, bytes]:
    """Render a figure; the same figure gives the same bytes.

    Returns:
        The SVG text, and the bytes of the PNG.
    """
    _choose_fonts(figure)
    with warnings.catch_warnings():
        # By these two letters matplotlib measures a line; a font for another script need not have them.
        warnings.filterwarnings('ignore', f'Glyph ({ord("l")}|{ord("p")}) ')
        if engine := figure.get_layout_engine():
            engine.execute(figure)
        # The layout takes most of the time and serves both files; matplotlib draws once more for each with any engine.
        figure.set_layout_engine(None)
        return _svg(figure), _png(figure)


def _choose_fonts(figure: Figure) -> None:
    """Draw each text in a font that has its letters; where this machine has none, in code points, and say so."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if not isinstance(axis.get_major_locator(), FixedLocator):
            continue
        names = [label.get_text() for label in axis.get_ticklabels()]
        # The labels of ticks are written anew whenever the figure is drawn, from these names.
        if any(font_for(composed(name)) is None for name in names):
            axis.set_ticklabels([_drawable(name) for name in names])
    for text in figure.findobj(Text):
        shown = _drawable(text.get_text())
        if shown != text.get_text():
            text.set_text(shown)
        path = font_for(shown) or house_font()
        if path != house_font():
            properties = text.get_fontproperties().copy()
            properties.set_file(path)
            text.set_fontproperties(properties)


def _drawable(text: str) -> str:
    text = composed(text)
    if font_for(text) is not None:
        return text
    say_what_is_escaped(text)
    return escaped(text)


def _svg(figure: Figure) -> str:
    """The figure as SVG, with a style sheet that swaps the inks and the paper on a dark page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', metadata={'Date': None, 'Creator': None})
    swaps = ''.join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in DARK.items()
        for kind in ('fill', 'stroke')
    )
    style = f'<style>@media (prefers-color-scheme: dark){{{swaps}}}</style>'
    return re.sub(r'(<svg [^>]*>)', lambda match: match[1] + style, buffer.getvalue(), count=1)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=PNG_DPI, metadata={'Software': None})
    return buffer.getvalue()


def short(name: str, length: int = LABEL_LENGTH) -> str:
    """Shorten a name for a legend: of a name that is too long the two ends are kept."""
    head = (length - 1) // 2
    return name if len(name) <= length else f'{name[:head]}…{name[head + 1 - length :]}'


def draw_heat_cells(
    axes: Axes,
    values: Sequence[Sequence[float]],
    pattern: str,
    starred: Collection[tuple[int, int]] = (),
    **limits: Any,
):
    """Draw a table as coloured cells with a number in each; NaN leaves a cell empty.

    Args:
        axes: Where to draw; the first row comes at the top.
        values: Rows of numbers.
        pattern: Format of a number.
        starred: Row and column of cells whose number has a star.
        **limits: ``vmin`` and ``vmax`` of the colours.

    Returns:
        The coloured cells, for `add_color_bar`.
    """
    mesh = axes.pcolormesh(values, cmap=HEAT_COLORS, edgecolors=PAPER, linewidth=1, **limits)
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if value == value:
                red, green, blue, _ = mesh.cmap(mesh.norm(value))
                ink = '#000000' if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else '#ffffff'
                at = column + 0.5, row + 0.5
                shown = pattern.format(value) + ('*' if (row, column) in starred else '')
                axes.text(*at, shown, ha='center', va='center', color=ink, fontsize=8.5)
    axes.invert_yaxis()
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return mesh


def add_color_bar(axes: Axes, mesh, label: str, **placement: Any) -> None:
    """Draw a colour bar beside the cells of `draw_heat_cells`."""
    bar = axes.figure.colorbar(mesh, ax=axes, **placement)
    bar.set_label(label, color=SOFT)
    bar.outline.set_visible(False)  # type: ignore[operator]  # matplotlib's own annotation is wrong here
