"""How every figure of this project looks, and how it becomes SVG and PNG: matplotlib, with no display.

A run has one colour everywhere (Okabe and Ito's colour-blind-safe palette, without its yellow and black that
vanish on a light and on a dark page) and one line style by its role, so that colour is never the only cue.
"""

import contextlib
import io
import re
from collections.abc import Iterator, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#8A8D91')
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
PANEL_NAME, ONLY_NAME = 18, 24
"""Characters of a run's name in the legend of one panel of two, and of a panel that stands alone."""
SOLID, DASHED, DOTTED, DASH_DOTTED = '-', (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2))
TEACHER, ALONE, DISTILLED, PLAIN = 'teacher', 'alone', 'distilled', 'plain'
LINE_STYLES = {TEACHER: DASHED, ALONE: DOTTED, DISTILLED: SOLID}
MARKERS = {TEACHER: 'D', ALONE: 'o', DISTILLED: 'o'}
PLAIN_LINE_STYLES = (SOLID, DASHED, DOTTED, DASH_DOTTED)
PLAIN_MARKERS = ('o', 's', '^', 'X')
"""Runs without roles take the next of these when the colours start again."""


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Within it figures are drawn in this style, whatever the user's own matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def render(figure: Figure) -> tuple[str, bytes]:
    """The SVG text and the bytes of the PNG; the same figure gives the same bytes."""
    figure.draw_without_rendering()
    figure.set_layout_engine('none')  # Laid out once, for both files: it is most of the time.
    return _svg(figure), _png(figure)


def _svg(figure: Figure) -> str:
    """SVG that follows the page into the dark: a style sheet inside swaps the inks and the paper."""
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


def run_colors(results: dict) -> dict[str, str]:
    """One colour a run, by its place among the runs; they repeat after the seventh."""
    return {run: PALETTE[index % len(PALETTE)] for index, run in enumerate(results.get('runs', {}))}


def run_role(results: dict, run: str) -> str:
    """Teacher of some run, distilled from one, or trained alone; a distilled teacher counts as distilled.

    Where no run was distilled there are no roles: every run is plain.
    """
    teachers = {name: its['teacher'] for name, its in results['runs'].items() if its['teacher'] is not None}
    if not teachers:
        return PLAIN
    if run in teachers:
        return DISTILLED
    return TEACHER if run in teachers.values() else ALONE


def run_line(results: dict, run: str) -> dict:
    """Colour and style of a run's lines. Dashed: teacher; dotted: alone; solid: distilled."""
    role = run_role(results, run)
    style = LINE_STYLES[role] if role != PLAIN else PLAIN_LINE_STYLES[_turn(results, run)]
    return {'color': run_colors(results)[run], 'linestyle': style}


def run_marker(results: dict, run: str) -> dict:
    """What a run's points look like, without a line. Diamond: teacher; ring: alone; disc: distilled."""
    role, color = run_role(results, run), run_colors(results)[run]
    return {
        'marker': MARKERS[role] if role != PLAIN else PLAIN_MARKERS[_turn(results, run)],
        'markersize': 5 if role == TEACHER else 6,
        'markerfacecolor': PAPER if role == ALONE else color,
        'markeredgecolor': color,
        'markeredgewidth': 1.6,
        'color': color,
        'linestyle': '',
        'zorder': 3,
    }


def _turn(results: dict, run: str) -> int:
    """How often the colours have started again before this run, as far as there are styles for it."""
    return min(list(results['runs']).index(run) // len(PALETTE), len(PLAIN_MARKERS) - 1)


def short(name: str, length: int = ONLY_NAME) -> str:
    """A name that fits a legend: its two ends where it is too long."""
    head = (length - 1) // 2
    return name if len(name) <= length else f'{name[:head]}…{name[head + 1 - length :]}'


def draw_heat_cells(axes: Axes, values: Sequence[Sequence[float]], pattern: str, **limits: float):
    """A table as coloured cells with the number in each; NaN leaves its cell empty.

    Args:
        axes: Where to draw; the first row comes at the top.
        values: Rows of numbers.
        pattern: Format of a number.
        **limits: ``vmin`` and ``vmax`` of the colours.

    Returns:
        What a colour bar is made of.
    """
    mesh = axes.pcolormesh(values, cmap=HEAT_COLORS, edgecolors=PAPER, linewidth=1, **limits)
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if value == value:
                red, green, blue, _ = mesh.cmap(mesh.norm(value))
                ink = '#000000' if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else '#ffffff'
                at = column + 0.5, row + 0.5
                axes.text(*at, pattern.format(value), ha='center', va='center', color=ink, fontsize=8.5)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return mesh


def add_color_bar(axes: Axes, mesh, label: str, **placement: float) -> None:
    """A colour bar beside the cells."""
    bar = axes.figure.colorbar(mesh, ax=axes, **placement)
    bar.set_label(label, color=SOFT)
    bar.outline.set_visible(False)
