"""The figure of the ledger: top-1 on each suite from the teacher to the artefact, narrow enough for a phone."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill.base.figures import INK, PALETTE, PAPER, SOFT, short
from distill.report.ledger import OOD_MEAN, STUDENT, Chain, chains, measure_change, measure_score, measures
from distill.report.scores import suite_label
from distill.report.style import PLAIN_LINE_STYLES
from distill.results.entries import Results

WIDTH_IN, STAGE_IN, HEIGHT_IN = 2.4, 0.75, 3.6
CHAINS_DRAWN = 8
"""More are in the table only."""
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
LABEL_GAP = 0.045
"""Between the labels at the end of the lines, as a part of the axis."""
NAME_LENGTH = 30


def draw_ledger(results: Results) -> Figure | None:
    """A panel a chain, one below the other: a line a suite, with its name and last value at the end.

    Lines differ in dashes and markers too, so that the figure reads in black and white. The student that was trained
    alone is a ring where the distilled one stands; a link that loses or gains measurably is drawn thick.
    """
    known = chains(results)[:CHAINS_DRAWN]
    if not known:
        return None
    longest = max(len(chain.stages) for chain in known)
    size = WIDTH_IN + STAGE_IN * longest, HEIGHT_IN * len(known)
    figure = Figure(figsize=size, layout='constrained')
    for axes, chain in zip(figure.subplots(len(known), squeeze=False)[:, 0], known, strict=True):
        _draw_chain(axes, results, chain)
    return figure


def _draw_chain(axes: Axes, results: Results, chain: Chain) -> None:
    places = range(len(chain.stages))
    ends: list[tuple[float, str, str, bool]] = []
    for index, name in enumerate(measures(results)):
        scores = [measure_score(results, stage.run, name) for stage in chain.stages]
        if None in scores:
            continue
        values = [score.value for score in scores if score]
        is_mean = name == OOD_MEAN
        color = INK if is_mean else PALETTE[index % len(PALETTE)]
        look = {'color': color, 'linestyle': '-' if is_mean else PLAIN_LINE_STYLES[index % len(PLAIN_LINE_STYLES)]}
        for place, link in enumerate(chain.links):
            change = measure_change(results, link, name)
            width = 2.6 if change and change.sign else 1.1
            axes.plot([place, place + 1], values[place : place + 2], linewidth=width, **look)
        marker = MARKERS[index % len(MARKERS)]
        axes.plot(places, values, marker, color=color, markersize=6 if is_mean else 4.5, zorder=3)
        if chain.alone and (alone := measure_score(results, chain.alone.run, name)):
            student = next(place for place in places if chain.stages[place].name == STUDENT)
            at = {'markerfacecolor': PAPER, 'markeredgecolor': color, 'markersize': 5.5, 'zorder': 3}
            axes.plot(student - 0.14, alone.value, marker, **at)
        label = OOD_MEAN if is_mean else suite_label(name)
        ends.append((values[-1], f'{label} {values[-1]:.1f}', color, is_mean))
    axes.set_title(
        f'{short(chain.stages[0].run, NAME_LENGTH)}  →\n{short(chain.stages[-1].run, NAME_LENGTH)}', color=INK
    )
    axes.set_xticks(places, [_broken(stage.name) for stage in chain.stages], color=INK)
    axes.set_xlim(-0.3, len(chain.stages) - 0.75)
    axes.set_ylim(0, 100)
    axes.set_ylabel('top-1 accuracy, %')
    axes.grid(axis='x', visible=False)
    heights = spread([end[0] for end in ends], 100 * LABEL_GAP * 1.3)
    for (value, label, color, is_mean), height in zip(ends, heights, strict=True):
        arrow = {'arrowstyle': '-', 'color': SOFT, 'linewidth': 0.5, 'shrinkA': 0, 'shrinkB': 4}
        axes.annotate(
            label,
            (len(chain.stages) - 1, value),
            (len(chain.stages) - 0.78, height),
            color=color,
            va='center',
            fontweight='bold' if is_mean else 'normal',
            arrowprops=arrow,
            annotation_clip=False,
        )


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
