"""The figure of the ledger: what is left from the teacher to the artefact, narrow enough for a phone."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill.base.figures import INK, PALETTE, PAPER, SOFT, short
from distill.report.entries import scene_name
from distill.report.ledger import OOD_MEAN, STUDENT, Chain, chains, measure_change, measure_score, measures
from distill.report.ledger_scenes import (
    BACKBONE,
    LABELS,
    SceneChain,
    backbone_scores,
    scene_chains,
    scene_link_changes,
)
from distill.report.scene_changes import PER_IMAGE
from distill.report.scores import suite_label
from distill.report.style import PLAIN_LINE_STYLES
from distill.results.entries import Results

WIDTH_IN, STAGE_IN, HEIGHT_IN = 1.5, 0.7, 3.3
"""So narrow that the letters of four stages, shrunk to the 316 px of a phone, are still 9 px high."""
CHAINS_DRAWN = 8
"""More are in the table only."""
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
LABEL_GAP = 0.045
"""Between the labels at the end of the lines, as a part of the axis."""
NAME_LENGTH = 30


@dataclass(frozen=True)
class Line:
    """A measure along a chain.

    Attributes:
        label: Its name.
        values: In percent, of each stage; None where it was not measured.
        moved: Of each link whether it loses or gains measurably.
        alone: Of the student that was trained alone, or None.
        strong: Whether it sums up the others.
    """

    label: str
    values: Sequence[float | None]
    moved: Sequence[bool]
    alone: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Panel:
    """A chain that is drawn.

    Attributes:
        title: Names of the first and the last stage.
        stages: What the stages are.
        lines: The measures.
        axis: What they are.
        alone: Place of the stage beside which the student alone is drawn.
    """

    title: tuple[str, str]
    stages: Sequence[str]
    lines: Sequence[Line]
    axis: str
    alone: int = 0


def draw_ledger(results: Results) -> Figure | None:
    """A panel a chain, one below the other: a line a measure, with its name and last value at the end.

    Lines differ in dashes and markers too, so that the figure reads in black and white. The student that was trained
    alone is a ring where the distilled one stands; a link that loses or gains measurably is drawn thick.
    """
    panels = [_panel(results, chain) for chain in chains(results)]
    panels += [_scene_panel(results, chain) for chain in scene_chains(results)]
    panels = [panel for panel in panels if panel.lines][:CHAINS_DRAWN]
    if not panels:
        return None
    longest = max(len(panel.stages) for panel in panels)
    size = WIDTH_IN + STAGE_IN * longest, HEIGHT_IN * len(panels)
    figure = Figure(figsize=size, layout='constrained')
    for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        _draw_panel(axes, panel)
    return figure


def _panel(results: Results, chain: Chain) -> Panel:
    """A classifier's chain: a line a suite, and one for the mean of the shifted ones."""
    lines = []
    for name in measures(results):
        scores = [measure_score(results, stage.run, name) for stage in chain.stages]
        if None in scores:
            continue
        changes = [measure_change(results, link, name) for link in chain.links]
        alone = measure_score(results, chain.alone.run, name) if chain.alone else None
        lines.append(
            Line(
                OOD_MEAN if name == OOD_MEAN else suite_label(name),
                [score.value for score in scores if score],
                [bool(change and change.sign) for change in changes],
                alone.value if alone else None,
                name == OOD_MEAN,
            )
        )
    names = chain.stages[0].run, chain.stages[-1].run
    return Panel(names, [stage.name for stage in chain.stages], lines, 'top-1 accuracy, %', _distilled(chain))


def _scene_panel(results: Results, one: SceneChain) -> Panel:
    """A detector's or segmenter's chain: its score on clean and on corrupted images, and the share that is kept.

    Its backbone, a classifier, has a share only: its scores do not compare.
    """
    stages, alone = one.chain.stages, one.chain.alone
    moved = {(change.before, change.measure): bool(change.points.sign) for change in scene_link_changes(results, one)}
    start = backbone_scores(results, one)
    before = [BACKBONE] if start and start[2] is not None else []
    nothing: list[float | None] = [None] * len(before)
    lines = []
    for score, name in zip(PER_IMAGE, ('clean', 'corrupted'), strict=True):
        values = [one.value(stage, score) for stage in stages]
        if None not in values:
            moves = [False] * len(before) + [moved.get((link[0], score), False) for link in one.chain.links]
            lines.append(Line(name, [*nothing, *values], moves, one.value(alone, score) if alone else None))
    shares = [one.kept(stage) for stage in stages]
    if None not in shares:
        shares = [*([start[2]] if before and start else []), *shares]
        moves = [False] * (len(shares) - 1)
        lines.append(Line('kept', shares, moves, one.kept(alone) if alone else None, strong=True))
    names = scene_name(one.entries[stages[0].run]), scene_name(one.entries[stages[-1].run])
    place = len(before) + _distilled(one.chain)
    axis = f'{LABELS[one.section]}, and kept of it, %'
    return Panel(names, [*before, *(stage.name for stage in stages)], lines, axis, place)


def _distilled(chain: Chain) -> int:
    """The place of the distilled student, or the first."""
    return next((place for place, stage in enumerate(chain.stages) if stage.name == STUDENT), 0)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    ends = [_draw_line(axes, line, index, panel.alone) for index, line in enumerate(panel.lines)]
    last = len(panel.stages) - 1
    first, final = (short(name, NAME_LENGTH) for name in panel.title)
    axes.set_title(f'{first}  →\n{final}' if last else first, color=INK)
    axes.set_xticks(range(last + 1), [_broken(name) for name in panel.stages], color=INK)
    axes.set_xlim(-0.4, last + 0.25)
    axes.set_ylim(0, 100)
    axes.set_ylabel(panel.axis)
    axes.grid(axis='x', visible=False)
    heights = spread([end[0] for end in ends], 100 * LABEL_GAP * 1.3)
    for (value, color), line, height in zip(ends, panel.lines, heights, strict=True):
        arrow = {'arrowstyle': '-', 'color': SOFT, 'linewidth': 0.5, 'shrinkA': 0, 'shrinkB': 4}
        axes.annotate(
            f'{line.label} {value:.1f}',
            (last, value),
            (last + 0.22, height),
            color=color,
            va='center',
            fontweight='bold' if line.strong else 'normal',
            arrowprops=arrow,
            annotation_clip=False,
        )


def _draw_line(axes: Axes, line: Line, index: int, alone: int) -> tuple[float, str]:
    """Draw a measure; returns its last value and its colour.

    Args:
        axes: Where.
        line: The measure.
        index: Its place among those of the panel, which chooses its look.
        alone: See `Panel`.
    """
    color = INK if line.strong else PALETTE[index % len(PALETTE)]
    style = '-' if line.strong else PLAIN_LINE_STYLES[index % len(PLAIN_LINE_STYLES)]
    marker = MARKERS[index % len(MARKERS)]
    known = [(place, value) for place, value in enumerate(line.values) if value is not None]
    for (place, value), (following, after) in itertools.pairwise(known):
        width = 2.6 if line.moved[place] else 1.1
        axes.plot([place, following], [value, after], linewidth=width, color=color, linestyle=style)
    axes.plot(*zip(*known, strict=True), marker, color=color, markersize=6 if line.strong else 4.5, zorder=3)
    if line.alone is not None:
        at = {'markerfacecolor': PAPER, 'markeredgecolor': color, 'markersize': 5.5, 'zorder': 3}
        axes.plot(alone - 0.14, line.alone, marker, **at)
    return known[-1][1], color


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Move heights apart, so that neighbours are at least a gap apart, in the order of the values and near to them.

    Args:
        values: Where the labels belong.
        gap: The least distance.

    Returns:
        Heights in the order of the values.
    """
    order = sorted(range(len(values)), key=lambda index: values[index])
    groups: list[list[int]] = [[index] for index in order]

    def centre(group: list[int]) -> float:
        return sum(values[index] for index in group) / len(group)

    def overlap(below: list[int], above: list[int]) -> bool:
        return centre(above) - centre(below) < gap * (len(below) + len(above)) / 2

    place = 0
    while place + 1 < len(groups):
        if overlap(groups[place], groups[place + 1]):
            groups[place : place + 2] = [groups[place] + groups[place + 1]]
            place = max(0, place - 1)
        else:
            place += 1
    heights = [0.0] * len(values)
    for group in groups:
        for rank, index in enumerate(group):
            heights[index] = centre(group) + gap * (rank - (len(group) - 1) / 2)
    return heights


def _broken(name: str) -> str:
    """A stage's name over two lines."""
    return name.replace(' ', '\n', 1)
