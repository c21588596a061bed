"""The figures of the report, each a function of the results: transfers, and corruptions by severity and kind."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from distill.base.figures import GRID, INK, SOFT, add_color_bar, draw_heat_cells, house_style, render, short
from distill.base.records import SEVERITIES
from distill.report.plots_ledger import draw_ledger
from distill.report.plots_models import draw_radar, draw_scatter, draw_shape_bias
from distill.report.scores import (
    Score,
    corrupted_suites,
    corruption_kinds,
    judged_runs,
    kind_label,
    ood_score,
    seen_kinds,
    shifted_suites,
    suite_cells,
    suite_label,
    suite_names,
    suite_score,
    transfers,
)
from distill.report.style import (
    ALONE,
    DISTILLED,
    ONLY_NAME,
    PANEL_NAME,
    run_colors,
    run_line,
    run_marker,
    run_role,
)
from distill.results.entries import Results

LEGEND_COLUMNS = 5
ARROW_FROM = 1.5
"""Points; a shorter arrow would be a smudge between two markers."""


def draw_figures(results: Results) -> dict[str, tuple[str, bytes]]:
    """Draw every figure for which the results hold numbers.

    Returns:
        By name: the SVG text and the bytes of the PNG. The same results give the same bytes.
    """
    with house_style():
        figures = {name: draw(results) for name, draw in FIGURES.items()}
        for suite in corrupted_suites(results):
            figures[f'severity_{suite}'] = draw_severity(results, suite)
            figures[f'heat_map_{suite}'] = draw_heat_map(results, suite)
        return {name: render(figure) for name, figure in figures.items() if figure is not None}


def draw_transfer(results: Results) -> Figure | None:
    """Top-1 by suite, one panel a transfer: teacher, student alone, and an arrow to the distilled student."""
    suites = suite_names(results)
    if not suites:
        return None
    pairs = transfers(results)
    panels = [pair.runs(results) for pair in pairs] or [judged_runs(results)]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    lane = max(0.52, 0.12 * max(map(len, panels)))
    size = 5.4 * columns if pairs else 8.6, (lane * len(suites) + 1.75) * rows
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    for axes, runs in zip(grid.flat, panels, strict=False):
        legend = _draw_panel(axes, results, runs, suites, PANEL_NAME if pairs else ONLY_NAME)
        # The title's padding makes room; a long name must not narrow the panel.
        legend.set_in_layout(not pairs)
    for axes, pair in zip(grid.flat, pairs, strict=False):
        axes.set_title(f'{short(pair.teacher, 30)}  →  {short(pair.student, 30)}', color=INK, pad=24)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel('top-1 accuracy, %')
    return figure


def _draw_panel(axes: Axes, results: Results, runs: list[str], suites: list[str], name: int) -> Legend:
    """Draw one lane a run within each suite's row, with whiskers for the 95 % interval.

    Returns:
        The legend, with ``name`` characters of each run's name.
    """
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
            axes.plot(score.value, y, **run_marker(results, run))
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
    return axes.legend(
        handles=[Line2D([], [], label=short(run, name), **run_marker(results, run)) for run in runs],
        loc='lower left',
        bbox_to_anchor=(-0.02, 1.0),
        ncols=min(3, len(runs)),
        fontsize=8,
        handletextpad=0.2,
        columnspacing=1.2,
        borderpad=0.2,
    )


def draw_severity(results: Results, suite: str) -> Figure:
    """Error against severity, one panel a corruption, one line a run; severity 0 is the clean set."""
    kinds = corruption_kinds(results, suite)
    cells = {run: suite_cells(results, run, suite) for run in judged_runs(results)}
    rows = -(-len(kinds) // 5)
    legend_rows = -(-sum(map(bool, cells.values())) // LEGEND_COLUMNS)
    figure = Figure(figsize=(10.8, 1.75 * rows + 0.5 + 0.2 * legend_rows), layout='constrained')
    grid = figure.subplots(rows, 5, squeeze=False, sharex=True, sharey=True)
    handles = {}
    for axes, kind in zip(grid.flat, kinds, strict=False):
        for run in cells:
            if kind not in cells[run]:
                continue
            clean = suite_score(results, run, 'clean')
            errors = [100 - value for value in ([clean.value] if clean else []) + cells[run][kind]]
            severities = range(len(SEVERITIES) + 1 - len(errors), len(SEVERITIES) + 1)
            (handles[run],) = axes.plot(severities, errors, **run_line(results, run), linewidth=1.6)
        axes.set_title(kind_label(kind), color=INK, pad=3)
        axes.grid(axis='x', visible=False)
        axes.set_xticks(range(len(SEVERITIES) + 1))
    for axes in grid.flat[len(kinds) :]:
        axes.set_visible(False)
    for axes in grid.flat[max(len(kinds) - 5, 0) : len(kinds)]:
        axes.tick_params(labelbottom=True)  # The lowest of its column, be it above the last row.
    grid[0, 0].set_ylim(bottom=0)
    figure.supxlabel('severity (0: clean)', color=SOFT, fontsize=9)
    figure.supylabel('error, %', color=SOFT, fontsize=9)
    legend = {
        'loc': 'outside upper left',
        'ncols': min(LEGEND_COLUMNS, len(handles)),
        'fontsize': 8,
        'columnspacing': 1.2,
    }
    figure.legend(handles.values(), map(short, handles), **legend)
    return figure


def draw_heat_map(results: Results, suite: str) -> Figure:
    """Mean top-1 over severities, runs by corruptions."""
    kinds = corruption_kinds(results, suite)
    table = {run: suite_cells(results, run, suite) for run in judged_runs(results)}
    table = {run: cells for run, cells in table.items() if cells}
    figure = Figure(figsize=(10.8, 0.36 * len(table) + 1.75), layout='constrained')
    axes = figure.subplots()
    values = [
        [sum(cells[kind]) / len(cells[kind]) if kind in cells else math.nan for kind in kinds]
        for cells in table.values()
    ]
    seen = {(row, kinds.index(kind)) for row, run in enumerate(table) for kind in seen_kinds(results, run, suite)}
    mesh = draw_heat_cells(axes, values, '{:.0f}', starred=seen)
    axes.set_xticks(
        [index + 0.5 for index in range(len(kinds))], map(kind_label, kinds), rotation=40, ha='right', color=INK
    )
    runs = [short(run, 24) for run in table]
    axes.set_yticks([index + 0.5 for index in range(len(table))], runs, color=INK)
    add_color_bar(axes, mesh, 'mean top-1, %', fraction=0.03, pad=0.01)
    return figure


FIGURES = {
    'transfer': draw_transfer,
    'radar': draw_radar,
    'scatter': draw_scatter,
    'shape_bias': draw_shape_bias,
    'ledger': draw_ledger,
}
"""Functions of the results, which return None where there is nothing to draw."""
