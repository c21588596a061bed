"""The figures that compare whole models: radar, clean against shifted, shape bias by class."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from distill.base.figures import GRID, INK, SOFT, short
from distill.report.scores import (
    Fit,
    judged_runs,
    ood_score,
    shape_bias,
    shape_bias_suite,
    shifted_suites,
    suite_entries,
    suite_fit,
    suite_label,
    suite_names,
    suite_score,
    suite_values,
    transfers,
)
from distill.report.style import ONLY_NAME, PANEL_NAME, run_colors, run_line, run_marker
from distill.results.entries import Results
from distill.results.statistics import logit

LEGEND_COLUMNS = 4
RADAR_AXES = 3
"""The fewest suites that make a polygon."""
RADAR_RUNS = 7
"""As many runs as there are colours; more polygons cannot be told apart."""
LOGIT_TICKS_PCT = (1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99)
LOGIT_MARGIN = 0.005
"""Scores of 0 and 100 % have no logit; they are drawn this far from the ends."""


def draw_radar(results: Results) -> Figure | None:
    """Top-1 on every suite as a polygon a run, one panel a transfer."""
    suites = suite_names(results)
    if len(suites) < RADAR_AXES:
        return None
    pairs = transfers(results)
    judged = judged_runs(results)
    panels = [[run for run in pair.runs(results) if run in judged] for pair in pairs] or [_leaders(results)]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.4 * columns if pairs else 8.6, 4.6 * rows), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False, subplot_kw={'projection': 'polar'})
    scores = [suite_score(results, run, suite) for runs in panels for run in runs for suite in suites]
    limit = 10 * math.ceil(max(score.value for score in scores if score) / 10)
    for axes, runs in zip(grid.flat, panels, strict=False):
        _draw_polygons(axes, results, runs, suites, PANEL_NAME if pairs else ONLY_NAME)
        axes.set_ylim(0, max(limit, 10))
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    return figure


def _leaders(results: Results) -> list[str]:
    """The runs of the largest OOD mean, as many as a radar can hold, in their order."""
    runs = judged_runs(results)
    means = {run: score.value if (score := ood_score(results, run)) else -1 for run in runs}
    chosen = sorted(runs, key=lambda run: -means[run])[:RADAR_RUNS]
    return [run for run in runs if run in chosen]


def _draw_polygons(axes: Axes, results: Results, runs: Sequence[str], suites: Sequence[str], name: int) -> None:
    """Draw a closed line a run, which is open at a suite that the run lacks.

    Args:
        axes: Polar axes.
        results: Checked results.
        runs: Runs to draw.
        suites: Suites, in order.
        name: Characters of a run's name in the legend.
    """
    angles = [2 * math.pi * index / len(suites) for index in range(len(suites))]
    axes.set_theta_zero_location('N')
    axes.set_theta_direction(-1)
    handles = []
    for run in runs:
        scores = [suite_score(results, run, suite) for suite in suites]
        values = [score.value if score else math.nan for score in scores]
        line, marker = run_line(results, run) | {'linewidth': 1.6}, run_marker(results, run)
        axes.plot([*angles, angles[0]], [*values, values[0]], **line)
        axes.plot(angles, values, **marker | {'markersize': 4})
        handles.append(Line2D([], [], label=short(run, name), **marker | line))
    axes.set_xticks(angles, map(suite_label, suites), color=INK)
    for angle, label in zip(angles, axes.get_xticklabels(), strict=True):
        side = round(math.sin(angle), 6)
        label.set_horizontalalignment('left' if side > 0 else 'right' if side < 0 else 'center')
    axes.tick_params(axis='x', pad=2)
    axes.tick_params(axis='y', labelsize=7.5)
    axes.set_rlabel_position(180 / len(suites))
    axes.spines['polar'].set_color(GRID)
    axes.legend(handles=handles, loc='upper center', bbox_to_anchor=(0.5, -0.08), ncols=min(3, len(runs)), fontsize=8)


def draw_scatter(results: Results) -> Figure | None:
    """Shifted against clean top-1 on logit axes, one panel a suite, with y = x and a fit where there is one."""
    panels, clean_pct = {}, suite_values(results, 'clean', 'top1_pct')
    for suite in shifted_suites(results):
        panels[suite] = {run: pct for run, pct in clean_pct.items() if run in suite_entries(results, suite)}
    panels = {suite: runs for suite, runs in panels.items() if runs}
    if not panels:
        return None
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    names = list(dict.fromkeys(run for runs in panels.values() for run in runs))
    legend_rows = -(-(len(names) + 2) // LEGEND_COLUMNS)
    figure = Figure(figsize=(3.6 * columns, 3.3 * rows + 0.25 * legend_rows), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (suite, runs) in zip(grid.flat, panels.items(), strict=False):
        _draw_points(axes, results, suite, runs)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    handles = [Line2D([], [], label=short(run), **run_marker(results, run)) for run in names]
    handles.append(Line2D([], [], label='y = x', color=GRID, linewidth=1.4))
    if any(suite_fit(results, suite) for suite in panels):
        handles.append(Line2D([], [], label='fit', color=SOFT, linewidth=1.2, linestyle='--'))
    figure.legend(handles=handles, loc='outside upper left', ncols=min(LEGEND_COLUMNS, len(handles)), fontsize=8)
    return figure


def _draw_points(axes: Axes, results: Results, suite: str, clean_pct: dict[str, float]) -> None:
    """One suite: runs with the whiskers of their shifted score, the line of no loss, and the fit."""
    colors = run_colors(results)
    scores = {run: suite_score(results, run, suite) for run in clean_pct}
    for run, score in scores.items():
        x = _logit(clean_pct[run])
        axes.plot([x, x], [_logit(score.low), _logit(score.high)], color=colors[run], linewidth=1.2, alpha=0.55)
        axes.plot(x, _logit(score.value), **run_marker(results, run))
    axes.set_xlabel('clean top-1, %')
    axes.set_ylabel('top-1, %')
    axes.set_title(suite_label(suite), color=INK)
    across = list(map(_logit, clean_pct.values()))
    up = [_logit(bound) for score in scores.values() for bound in (score.low, score.high)]
    _set_logit_axis(axes.xaxis, across)
    _set_logit_axis(axes.yaxis, up)
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color=GRID, linewidth=1.4, zorder=1, scalex=False, scaley=False)
    fit = suite_fit(results, suite)
    if fit:
        ends = [fit.slope * x + fit.intercept for x in (low, high)]
        line = {'color': SOFT, 'linewidth': 1.2, 'linestyle': '--', 'zorder': 1.5}
        axes.plot([low, high], ends, scalex=False, scaley=False, **line)
        axes.annotate(_fit_label(fit), (0.03, 0.96), xycoords='axes fraction', va='top', fontsize=7.5, color=SOFT)


def _fit_label(fit: Fit) -> str:
    count = len(fit.runs)
    return f'fit on {count} baselines' if fit.baseline else f'fit on these {count} runs'


def _logit(pct: float) -> float:
    """The log-odds of a score in percent, which is first moved off the ends."""
    return float(logit(pct, LOGIT_MARGIN))


def _set_logit_axis(axis, values: Sequence[float]) -> None:
    """Limits around the values and ticks in percent, at most six of them."""
    margin = max(0.08 * (max(values) - min(values)), 0.15)
    low, high = min(values) - margin, max(values) + margin
    inside = [pct for pct in LOGIT_TICKS_PCT if low <= _logit(pct) <= high]
    if len(inside) < 3:  # A narrow range: every whole percent.
        inside = [pct for pct in range(1, 100) if low <= _logit(pct) <= high]
    shown = inside[:: -(-len(inside) // 6)] if inside else []
    axis.set_ticks([_logit(pct) for pct in shown], [f'{pct}' for pct in shown])
    axis.axes.set(**{f'{axis.axis_name}lim': (low, high)})


def draw_shape_bias(results: Results) -> Figure | None:
    """Shape bias by class, as Geirhos et al. (ICLR 2019) show it; a line stands at each run's overall bias."""
    suite = shape_bias_suite(results)
    by_class = suite_values(results, suite, 'shape_bias_by_class') if suite else {}
    by_class = {run: values for run, values in by_class.items() if values}
    classes = sorted({name for values in by_class.values() for name in values})
    if not classes:
        return None
    legend_rows = -(-len(by_class) // LEGEND_COLUMNS)
    figure = Figure(figsize=(8.6, 0.3 * len(classes) + 0.9 + 0.25 * legend_rows), layout='constrained')
    axes = figure.subplots()
    for index, (run, values) in enumerate(by_class.items()):
        lane = (index - (len(by_class) - 1) / 2) * 0.6 / max(len(by_class), 3)
        known = [(values[name], row + lane) for row, name in enumerate(classes) if name in values]
        axes.plot(
            [value for value, _ in known], [row for _, row in known], label=short(run), **run_marker(results, run)
        )
        overall = shape_bias(results, run)
        if overall is not None:
            axes.axvline(overall, **run_line(results, run), linewidth=1.2)
    axes.set_yticks(range(len(classes)), classes, color=INK)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.set_xlim(-2, 102)
    axes.set_xlabel('← texture        shape decisions among shape and texture decisions, %        shape →')
    figure.legend(loc='outside upper left', ncols=min(LEGEND_COLUMNS, len(by_class)), fontsize=8)
    return figure
