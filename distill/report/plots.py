"""The figures of the report, drawn with matplotlib and no display.

A run has one colour everywhere (Okabe and Ito's colour-blind-safe palette, without its yellow and black that
vanish on a light and on a dark page) and one line style by its role, so that colour is never the only cue.
"""

import io
import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distill.report.scores import (
    Score,
    corruption_kinds,
    ood_score,
    shifted_suites,
    suite_label,
    suite_names,
    suite_score,
    transfers,
)

PALETTE = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#8A8D91')
INK, SOFT, GRID, PAPER = '#24292e', '#636c75', '#d5dae0', '#fefefe'
DARK = {INK: '#e6eaee', SOFT: '#9aa4ad', GRID: '#363d45', PAPER: '#161b21'}
"""What the inks become on a dark page. Data keeps its colours."""

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
ARROW_FROM = 1.5
"""Points; a shorter arrow would be a smudge between its ends."""
TEACHER, ALONE, DISTILLED = 'teacher', 'alone', 'distilled'
LINE_STYLES = {TEACHER: (0, (5, 2)), ALONE: (0, (1, 1.5)), DISTILLED: '-'}
MARKERS = {TEACHER: 'D', ALONE: 'o', DISTILLED: 'o'}


def run_colors(results: dict) -> dict[str, str]:
    """One colour a run, by its place among the runs; they repeat after the seventh."""
    return {run: PALETTE[index % len(PALETTE)] for index, run in enumerate(results.get('runs', {}))}


def run_role(results: dict, run: str) -> str:
    """Teacher of some run, distilled from one, or trained alone; a distilled teacher counts as distilled."""
    runs = results['runs']
    if runs[run]['teacher'] is not None:
        return DISTILLED
    return TEACHER if run in {its['teacher'] for its in runs.values()} else ALONE


def short(name: str, length: int = 18) -> str:
    """A name that fits a legend: its two ends where it is too long."""
    head = (length - 1) // 2
    return name if len(name) <= length else f'{name[:head]}…{name[head + 1 - length :]}'


def draw_figures(results: dict) -> dict[str, tuple[str, bytes]]:
    """Draws every figure that the results have numbers for.

    Returns:
        By name: the SVG text and the bytes of the PNG. The same results give the same bytes.
    """
    drawn = {}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        for name, draw in FIGURES.items():
            figure = draw(results)
            if figure is not None:
                figure.draw_without_rendering()
                figure.set_layout_engine('none')  # Laid out once, for both files: it is most of the time.
                drawn[name] = _svg(figure), _png(figure)
    return drawn


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


def draw_transfer(results: dict) -> Figure | None:
    """Top-1 by suite, one panel a transfer: teacher, student alone, and an arrow to the distilled student."""
    suites = suite_names(results)
    if not suites:
        return None
    pairs = transfers(results)
    panels = [pair.runs(results) for pair in pairs] or [list(results['classification'])]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.4 * columns, (0.52 * len(suites) + 1.75) * rows), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes, runs in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, results, runs, suites)
    for axes, pair in zip(grid.flat, pairs, strict=False):
        axes.set_title(f'{short(pair.teacher, 30)}  →  {short(pair.student, 30)}', color=INK, pad=24)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel('top-1 accuracy, %')
    return figure


def _draw_panel(axes: Axes, results: dict, runs: list[str], suites: list[str]) -> None:
    """One lane a run within each suite's row, whiskers for the 95 % interval."""
    colors = run_colors(results)
    lanes = {run: (index - (len(runs) - 1) / 2) * 0.7 / max(len(runs), 3) for index, run in enumerate(runs)}
    labels = [*map(suite_label, suites), *(['OOD mean'] if shifted_suites(results) else [])]
    for row in range(len(labels)):
        found: dict[str, tuple[float, float]] = {}
        for run in runs:
            score: Score | None = (
                suite_score(results, run, suites[row]) if row < len(suites) else ood_score(results, run)
            )
            if score is None:
                continue
            role, y = run_role(results, run), row + lanes[run]
            found[role] = score.value, y
            axes.plot([score.low, score.high], [y, y], color=colors[run], linewidth=1.2, alpha=0.55)
            axes.plot(score.value, y, **_marker(role, colors[run]))
        moved = {ALONE, DISTILLED} <= found.keys() and abs(found[DISTILLED][0] - found[ALONE][0]) > ARROW_FROM
        if moved:
            arrow = {'arrowstyle': '-|>', 'color': SOFT, 'linewidth': 0.9, 'shrinkA': 4, 'shrinkB': 4}
            arrow['mutation_scale'] = 8
            axes.annotate('', found[DISTILLED], found[ALONE], arrowprops=arrow)
    axes.axhline(len(suites) - 0.5, color=GRID, linewidth=1.2)
    axes.set_yticks(range(len(labels)), labels, color=INK)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis='y', visible=False)
    axes.spines['left'].set_visible(False)
    markers = {run: _marker(run_role(results, run), colors[run]) for run in runs}
    handles = [Line2D([], [], label=short(run), linestyle='', **marker) for run, marker in markers.items()]
    legend = axes.legend(
        handles=handles,
        loc='lower left',
        bbox_to_anchor=(-0.02, 1.0),
        ncols=min(3, len(runs)),
        fontsize=8,
        handletextpad=0.2,
        columnspacing=1.2,
        borderpad=0.2,
    )
    legend.set_in_layout(False)  # The title's padding makes room; a long name must not narrow the panel.


def _marker(role: str, color: str) -> dict:
    """Diamond: teacher; ring: alone; disc: distilled."""
    face = PAPER if role == ALONE else color
    return {
        'marker': MARKERS[role],
        'markersize': 5 if role == TEACHER else 6,
        'markerfacecolor': face,
        'markeredgecolor': color,
        'markeredgewidth': 1.6,
        'color': color,
        'zorder': 3,
    }


def draw_severity(results: dict) -> Figure | None:
    """Error against severity, one panel a corruption, one line a run; severity 0 is the clean set."""
    kinds = corruption_kinds(results)
    if not kinds:
        return None
    rows = -(-len(kinds) // 5)
    legend_rows = -(-len(results['classification']) // 6)
    figure = Figure(figsize=(10.8, 1.75 * rows + 0.5 + 0.2 * legend_rows), layout='constrained')
    grid = figure.subplots(rows, 5, squeeze=False, sharex=True, sharey=True)
    colors = run_colors(results)
    handles = {}
    for axes, kind in zip(grid.flat, kinds, strict=False):
        for run, suites in results['classification'].items():
            top1_pct = suites.get('corruption', {}).get('cells', {}).get(kind)
            if top1_pct is None:
                continue
            clean = [suites['clean']['top1_pct']] if 'clean' in suites else []
            errors = [100 - value for value in (*clean, *top1_pct)]
            severities = range(1 - len(clean), len(top1_pct) + 1)
            style = LINE_STYLES[run_role(results, run)]
            (handles[run],) = axes.plot(severities, errors, color=colors[run], linestyle=style, linewidth=1.6)
        axes.set_title(kind.replace('_', ' '), color=INK, pad=3)
        axes.grid(axis='x', visible=False)
        axes.set_xticks(range(6))
    for axes in grid.flat[len(kinds) :]:
        axes.set_visible(False)
    grid[0, 0].set_ylim(bottom=0)
    figure.supxlabel('severity (0: clean)', color=SOFT, fontsize=9)
    figure.supylabel('error, %', color=SOFT, fontsize=9)
    legend = {'loc': 'outside upper left', 'ncols': min(6, len(handles)), 'fontsize': 8, 'columnspacing': 1.2}
    figure.legend(handles.values(), map(short, handles), **legend)
    return figure


def draw_heat_map(results: dict) -> Figure | None:
    """Mean top-1 over severities, runs by corruptions."""
    kinds = corruption_kinds(results)
    if not kinds:
        return None
    runs = results['classification'].items()
    table = {run: suites['corruption']['cells'] for run, suites in runs if 'corruption' in suites}
    figure = Figure(figsize=(10.8, 0.36 * len(table) + 1.75), layout='constrained')
    axes = figure.subplots()
    values = [
        [sum(cells[kind]) / len(cells[kind]) if kind in cells else float('nan') for kind in kinds]
        for cells in table.values()
    ]
    known = [value for row in values for value in row if value == value]
    limits = {'vmin': min(known), 'vmax': max(known)}
    mesh = axes.pcolormesh(values, cmap='cividis', edgecolors=PAPER, linewidth=1, **limits)
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            if value == value:
                red, green, blue, _ = mesh.cmap(mesh.norm(value))
                ink = '#000000' if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else '#ffffff'
                at = column + 0.5, row + 0.5
                axes.text(*at, f'{value:.0f}', ha='center', va='center', color=ink, fontsize=8.5)
    names = [kind.replace('_', ' ') for kind in kinds]
    axes.set_xticks([index + 0.5 for index in range(len(kinds))], names, rotation=40, ha='right', color=INK)
    axes.set_yticks([index + 0.5 for index in range(len(table))], list(table), color=INK)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(mesh, ax=axes, fraction=0.03, pad=0.01)
    bar.set_label('mean top-1, %', color=SOFT)
    bar.outline.set_visible(False)
    return figure


FIGURES = {'transfer': draw_transfer, 'severity': draw_severity, 'heat_map': draw_heat_map}
"""A figure is a function of the results; one that has no numbers to draw returns None."""
