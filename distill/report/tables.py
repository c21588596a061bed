"""From results to tables: transfers and runs here, others in `tables_metrics`, `tables_downstream`, `fingerprint`.

Nothing here knows HTML, Markdown or a terminal: a `Table` is text with marks, and each of them renders it.
"""

from dataclasses import dataclass, field, replace

from distill.report.scores import (
    Score,
    corrupted_suites,
    ood_difference,
    ood_score,
    shape_bias,
    shifted_suites,
    suite_difference,
    suite_entry,
    suite_label,
    suite_names,
    suite_score,
    transfers,
)

MISSING = '–'


@dataclass(frozen=True)
class Cell:
    """One cell: the text, what the column sorts by, small print, and a mark.

    ``mark`` is 'best', 'gain', 'loss' or empty. ``run`` names the run whose colour goes beside the text. The
    first cell of a row that sums up the rows above it is a ``total``.
    """

    text: str = MISSING
    sort: float | None = None
    note: str = ''
    mark: str = ''
    run: str = ''
    total: bool = False


@dataclass(frozen=True)
class Column:
    """A heading; ``best`` says which end wins: 'max', 'min' or none. Numbers stand on the right."""

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
    return Cell(MISSING if value in (None, '') else str(value))


def number_cell(value: float | None, pattern: str = '{:.1f}', note: str = '') -> Cell:
    return Cell() if value is None else Cell(pattern.format(value).replace('-', '−'), value, note)


def score_cell(score: Score | None) -> Cell:
    return Cell() if score is None else number_cell(score.value, note=f'{score.low:.1f}–{score.high:.1f}')


def difference_cell(score: Score | None) -> Cell:
    """A difference in points, marked where its interval leaves zero out."""
    if score is None:
        return Cell()
    mark = {1: 'gain', -1: 'loss', 0: ''}[score.sign]
    return Cell(signed(score.value), score.value, f'{signed(score.low)} to {signed(score.high)}', mark)


def backbone_cell(entry: dict) -> Cell:
    """The run behind a detector or segmenter."""
    name = entry.get('backbone', '')
    return Cell(name or MISSING, run=name)


def mark_best(columns: list[Column], rows: list[list[Cell]]) -> list[list[Cell]]:
    """Marks the best value of each column that has a best end and at least two different values."""
    rows = [list(row) for row in rows]
    for index, column in enumerate(columns):
        values = {row[index].sort for row in rows} - {None}
        if column.best and len(values) > 1:
            best = max(values) if column.best == 'max' else min(values)
            for row in rows:
                if row[index].sort == best:
                    row[index] = replace(row[index], mark='best')
    return rows


def transfer_table(results: dict) -> Table | None:
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
        note = role if run in results['runs'] else f'{role}: not in these results'
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


def summary_table(results: dict) -> Table | None:
    """Every run on every suite with its interval, best marked."""
    suites = suite_names(results)
    if not suites:
        return None
    columns = [NAME, *(Column(suite_label(suite), 'top-1 %', 'max') for suite in suites)]
    with_mean = bool(shifted_suites(results))
    if with_mean:
        columns.append(Column('OOD mean', 'top-1 %', 'max'))
    with_bias = any(shape_bias(results, run) is not None for run in results['classification'])
    if with_bias:
        columns.append(Column('Shape bias', '%', 'max'))
    rows = []
    for run in results['classification']:
        row = [Cell(run, run=run), *(score_cell(suite_score(results, run, suite)) for suite in suites)]
        if with_mean:
            row.append(score_cell(ood_score(results, run)))
        if with_bias:
            row.append(number_cell(shape_bias(results, run)))
        rows.append(row)
    notes = ['Small print: 95 % interval over the test images (Wilson); the training seed is not part of it. ★ best.']
    for suite in corrupted_suites(results):
        sources = {entry['source'] for run in results['classification'] if (entry := suite_entry(results, run, suite))}
        notes.append(f'{suite_label(suite)} is the mean over all kinds and severities ({", ".join(sorted(sources))}).')
    notes += uneven_sets(results)
    return Table('All runs', columns, [mark_best(columns, rows)], notes)


def uneven_sets(results: dict) -> list[str]:
    """A warning for each suite of which not all runs saw the same images."""
    warnings = []
    for suite in suite_names(results):
        entries = {run: its[suite] for run, its in results['classification'].items() if suite in its}
        counts = {run: f'{entry["images"]:,}' for run, entry in entries.items()}
        hashes = {entry.get('fingerprint', {}).get('data') for entry in entries.values()} - {None}
        if len(set(counts.values())) > 1:
            listed = ', '.join(f'{run} {count}' for run, count in counts.items())
            warnings.append(f'Warning: {suite_label(suite)} has different image counts ({listed}): not the same set.')
        elif len(hashes) > 1:
            warnings.append(f'Warning: {suite_label(suite)} has different images in different runs: not the same set.')
        for key in ('frost', 'definition'):
            made = {run: entry[key] for run, entry in entries.items() if key in entry}
            if len(set(made.values())) > 1:
                listed = ', '.join(f'{run} {value}' for run, value in made.items())
                warnings.append(f'Warning: {suite_label(suite)} has different {key} ({listed}): not the same set.')
    return warnings


def subset_table(results: dict) -> Table | None:
    """Suites that hold a part of the classes, beside the clean accuracy over just these classes."""
    runs = results.get('classification', {})
    suites = [
        suite
        for suite in shifted_suites(results)
        if any('clean_subset_top1_pct' in its.get(suite, {}) for its in runs.values())
    ]
    if not suites:
        return None
    columns = [NAME]
    for suite in suites:
        counts = {its[suite]['classes'] for its in runs.values() if 'classes' in its.get(suite, {})}
        classes = f'{counts.pop()} classes' if len(counts) == 1 else ''
        columns += [
            Column(suite_label(suite), classes, 'max'),
            Column('clean', 'same classes', 'max'),
            Column('drop', 'points', 'min'),
        ]
    rows = []
    for run, its in runs.items():
        row = [Cell(run, run=run)]
        for suite in suites:
            top1, clean = (its.get(suite, {}).get(key) for key in ('top1_pct', 'clean_subset_top1_pct'))
            drop = clean - top1 if None not in (top1, clean) else None
            row += [number_cell(top1), number_cell(clean), number_cell(drop)]
        rows.append(row)
    return Table('Against clean accuracy on the same classes', columns, [mark_best(columns, rows)])
