"""The colour, line and marker of each run in the report's figures.

A run has one colour everywhere, and one line style by its role, so that colour is never the only cue.
"""

from distill.base.figures import LABEL_LENGTH, PALETTE, PAPER
from distill.report.scores import run_entries, teachers
from distill.results.entries import Results

PANEL_NAME, ONLY_NAME = 18, LABEL_LENGTH
"""Characters of a run's name in the legend of one panel of two, and of a panel that stands alone."""
SOLID, DASHED, DOTTED, DASH_DOTTED = '-', (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2))
TEACHER, ALONE, DISTILLED, PLAIN = 'teacher', 'alone', 'distilled', 'plain'
LINE_STYLES = {TEACHER: DASHED, ALONE: DOTTED, DISTILLED: SOLID}
MARKERS = {TEACHER: 'D', ALONE: 'o', DISTILLED: 'o'}
PLAIN_LINE_STYLES = (SOLID, DASHED, DOTTED, DASH_DOTTED)
PLAIN_MARKERS = ('o', 's', '^', 'X')
"""Plain runs take the next line and marker when the colours start again."""


def run_colors(results: Results) -> dict[str, str]:
    """One colour a run, by its place among the runs; the colours repeat after the seventh."""
    return {run: PALETTE[index % len(PALETTE)] for index, run in enumerate(run_entries(results))}


def run_role(results: Results, run: str) -> str:
    """The role of a run: teacher, alone or distilled; a distilled teacher counts as distilled.

    Where no run was distilled, every run is plain.
    """
    teacher_of = teachers(results)
    if not teacher_of:
        return PLAIN
    if run in teacher_of:
        return DISTILLED
    return TEACHER if run in teacher_of.values() else ALONE


def run_line(results: Results, run: str) -> dict:
    """Colour and style of a run's lines. Dashed: teacher; dotted: alone; solid: distilled."""
    role = run_role(results, run)
    style = LINE_STYLES[role] if role != PLAIN else PLAIN_LINE_STYLES[_turn(results, run)]
    return {'color': run_colors(results)[run], 'linestyle': style}


def run_marker(results: Results, run: str) -> dict:
    """Marker and colour of a run's points, without a line. Diamond: teacher; ring: alone; disc: distilled."""
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


def _turn(results: Results, run: str) -> int:
    """How often the colours have started again before this run, as far as there are styles for it."""
    return min(list(run_entries(results)).index(run) // len(PALETTE), len(PLAIN_MARKERS) - 1)
