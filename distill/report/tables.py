"""Tables of transfers and runs; `tables_metrics`, `tables_downstream` and `fingerprint` hold the others.

A `Table` is text with marks. HTML, Markdown and the terminal render it, each in its own way.
"""

from dataclasses import dataclass, field, replace

from distill.base.records import KINDS
from distill.report.entries import backbone, scene_name
from distill.report.scores import (
    Score,
    corrupted_suites,
    judged_runs,
    ood_difference,
    ood_score,
    run_entries,
    seen_kinds,
    shape_bias,
    shifted_suites,
    suite_difference,
    suite_entry,
    suite_label,
    suite_names,
    suite_score,
    suite_values,
    transfers,
)
from distill.results.entries import Results

MISSING = '–'


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: The cell's text.
        sort: Number by which the column is sorted.
        note: Small print.
        mark: 'best', 'gain', 'loss' or empty.
        run: Run whose colour goes beside the text.
        total: Whether this is the first cell of a row that sums up the rows above it.
    """

    text: str = MISSING
    sort: float | None = None
    note: str = ''
    mark: str = ''
    run: str = ''
    total: bool = False


@dataclass(frozen=True)
class Column:
    """A heading.

    Attributes:
        label: The column's name.
        note: Small print, such as the unit.
        best: 'max' or 'min' where the largest or smallest value is the best; empty where none is.
        number: Whether the cells are numbers, which stand on the right.
    """

    label: str
    note: str = ''
    best: str = ''
    number: bool = True


@dataclass(frozen=True)
class Table:
    """Columns and groups of rows; a table with one group can be sorted."""

    title: str
    columns: list[Column]
    groups: list[list[list[Cell]]]
    notes: list[str] = field(default_factory=list)


NAME = Column('Run', number=False)
BACKBONE = Column('Backbone', number=False)
IMAGES = Column('Images')


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, a true minus, and no sign on zero."""
    shown = f'{value:+.{digits}f}'
    return shown[1:] if float(shown) == 0 else shown.replace('-', '−')


def text_cell(value: object) -> Cell:
    """A text; None and an empty text are shown as missing."""
    return Cell(MISSING if value in (None, '') else str(value))


def number_cell(value: float | None, pattern: str = '{:.1f}', note: str = '') -> Cell:
    """A number by a format pattern, with a true minus; None is shown as missing."""
    return Cell() if value is None else Cell(pattern.format(value).replace('-', '−'), value, note)


def score_cell(score: Score | None) -> Cell:
    """A score with its interval as small print."""
    return Cell() if score is None else number_cell(score.value, note=f'{score.low:.1f}–{score.high:.1f}')


def difference_cell(score: Score | None) -> Cell:
    """A difference in points, marked as gain or loss where its interval leaves out zero."""
    if score is None:
        return Cell()
    mark = {1: 'gain', -1: 'loss', 0: ''}[score.sign]
    return Cell(signed(score.value), score.value, f'{signed(score.low)} to {signed(score.high)}', mark)


def backbone_cell(entry: dict) -> Cell:
    """The run behind a detector or segmenter, and what that is called itself."""
    name = backbone(entry)
    return Cell(name or MISSING, note=scene_name(entry), run=name)


def mark_best(columns: list[Column], rows: list[list[Cell]]) -> list[list[Cell]]:
    """Mark the best value of each column that has a best end and at least two different values."""
    rows = [list(row) for row in rows]
    for index, column in enumerate(columns):
        values = {row[index].sort for row in rows} - {None}
        if column.best and len(values) > 1:
            best = max(values) if column.best == 'max' else min(values)
            for row in rows:
                if row[index].sort == best:
                    row[index] = replace(row[index], mark='best')
    return rows


def transfer_table(results: Results) -> Table | None:
    """Teacher, student alone, student distilled, and the difference: one block a transfer."""
    pairs = transfers(results)
    suites = suite_names(results)
    if not pairs or not suites:
        return None
    shifted = shifted_suites(results)
    columns = [NAME, *(Column(suite_label(suite)) for suite in suites)]
    columns += [Column('OOD mean'), Column('Shape bias')] if shifted else []

    def values(run: str | None) -> list[Score | None]:
        return [
            *(suite_score(results, run, suite) for suite in suites),
            *([ood_score(results, run)] if shifted else []),
        ]

    def row(role: str, run: str | None) -> list[Cell]:
        note = role if run in run_entries(results) else f'{role}: not in these results'
        bias = [number_cell(shape_bias(results, run))] if shifted else []
        scores = (number_cell(score and score.value) for score in values(run))
        return [Cell(run or MISSING, note=note, run=run or ''), *scores, *bias]

    groups = []
    for pair in pairs:
        rows = [
            row('teacher', pair.teacher),
            row('student alone', pair.reference),
            row('student distilled', pair.student),
        ]
        changes = [suite_difference(results, pair.student, pair.reference, suite) for suite in suites]
        changes += [ood_difference(results, pair.student, pair.reference)] if shifted else []
        before, after = shape_bias(results, pair.reference), shape_bias(results, pair.student)
        bias = Cell() if before is None or after is None else Cell(signed(after - before), after - before)
        total = Cell('transferred', note='points', total=True)
        rows.append([total, *map(difference_cell, changes), *([bias] if shifted else [])])
        groups.append(rows)
    notes = [
        'Top-1 accuracy and shape bias in percent. “Transferred” is the distilled student minus the same '
        'model trained alone, in points, with the 95 % interval below it; ▲ and ▼ mark differences whose '
        'interval leaves out zero.'
    ]
    if shifted:
        notes.append(f'OOD mean is the plain mean over {", ".join(map(suite_label, shifted))}.')
    return Table('What was transferred', columns, groups, notes)


def summary_table(results: Results) -> Table | None:
    """Every run on every suite with its interval; the best run of each suite is marked."""
    suites = suite_names(results)
    if not suites:
        return None
    columns = [NAME, *(Column(suite_label(suite), 'top-1 %', 'max') for suite in suites)]
    with_mean = bool(shifted_suites(results))
    if with_mean:
        columns.append(Column('OOD mean', 'top-1 %', 'max'))
    with_bias = any(shape_bias(results, run) is not None for run in judged_runs(results))
    if with_bias:
        columns.append(Column('Shape bias', '%', 'max'))
    rows = []
    for run in judged_runs(results):
        row = [Cell(run, run=run), *(score_cell(suite_score(results, run, suite)) for suite in suites)]
        if with_mean:
            row.append(score_cell(ood_score(results, run)))
        if with_bias:
            row.append(number_cell(shape_bias(results, run)))
        rows.append(row)
    notes = ['Small print: 95 % interval over the test images (Wilson); the training seed is not part of it. ★ best.']
    for suite in corrupted_suites(results):
        sources = sorted(set(suite_values(results, suite, 'source').values()))
        notes.append(f'{suite_label(suite)} is the mean over all kinds and severities ({", ".join(sources)}).')
    notes += seen_notes(results) + uneven_sets(results)
    return Table('All runs', columns, [mark_best(columns, rows)], notes)


def seen_notes(results: Results, suites: list[str] | None = None, runs: list[str] | None = None) -> list[str]:
    """A line for each run that saw kinds in training which it is judged by.

    Args:
        results: Contents of ``results.json``.
        suites: Corrupted suites; all by default.
        runs: Runs that were judged; all by default.
    """
    notes = []
    for suite in corrupted_suites(results) if suites is None else suites:
        for run in judged_runs(results) if runs is None else runs:
            counted = [kind for kind in seen_kinds(results, run, suite) if kind in KINDS]
            if counted:
                names = ', '.join(kind.replace('_', ' ') for kind in counted)
                notes.append(f'{run} saw {names} in training: its mean over {suite_label(suite)} is no test of these.')
    return notes


def uneven_sets(results: Results) -> list[str]:
    """A warning for each suite of which not all runs saw the same images."""
    warnings = []
    for suite in suite_names(results):
        counts = {run: f'{images:,}' for run, images in suite_values(results, suite, 'images').items()}
        hashes = {entry.get('data') for entry in suite_values(results, suite, 'fingerprint').values()} - {None}
        if len(set(counts.values())) > 1:
            listed = ', '.join(f'{run} {count}' for run, count in counts.items())
            warnings.append(f'Warning: {suite_label(suite)} has different image counts ({listed}): not the same set.')
        elif len(hashes) > 1:
            warnings.append(f'Warning: {suite_label(suite)} has different images in different runs: not the same set.')
        for key in ('frost', 'definition'):
            values = suite_values(results, suite, key)
            if len(set(values.values())) > 1:
                listed = ', '.join(f'{run} {value}' for run, value in values.items())
                warnings.append(f'Warning: {suite_label(suite)} has different {key} ({listed}): not the same set.')
    return warnings


def subset_table(results: Results) -> Table | None:
    """Suites of fewer classes, beside the clean accuracy on these classes."""
    suites = [suite for suite in shifted_suites(results) if suite_values(results, suite, 'clean_subset_top1_pct')]
    if not suites:
        return None
    columns = [NAME]
    for suite in suites:
        counts = set(suite_values(results, suite, 'classes').values())
        classes = f'{counts.pop()} classes' if len(counts) == 1 else ''
        columns += [
            Column(suite_label(suite), classes, 'max'),
            Column('clean', 'same classes', 'max'),
            Column('drop', 'points', 'min'),
        ]
    rows = []
    for run in judged_runs(results):
        row = [Cell(run, run=run)]
        for suite in suites:
            entry = suite_entry(results, run, suite)
            top1_pct, clean_pct = entry.get('top1_pct'), entry.get('clean_subset_top1_pct')
            drop = clean_pct - top1_pct if None not in (top1_pct, clean_pct) else None
            row += [number_cell(top1_pct), number_cell(clean_pct), number_cell(drop)]
        rows.append(row)
    return Table('Against clean accuracy on the same classes', columns, [mark_best(columns, rows)])
