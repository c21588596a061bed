"""From results to tables.

Nothing here knows HTML, Markdown or a terminal: a `Table` is text with marks, and each of them renders it.
"""

from dataclasses import dataclass, field, replace

from distill.report.collect import downstream, provenances
from distill.report.schema import PRECISIONS
from distill.report.scores import (
    Score,
    ood_score,
    shape_bias,
    shifted_suites,
    subtract,
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


def _mark_best(columns: list[Column], rows: list[list[Cell]]) -> list[list[Cell]]:
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
        changes = [subtract(a, b) for a, b in zip(values(pair.student), values(pair.reference), strict=True)]
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
        notes.append(f'OOD mean is the plain mean over {", ".join(map(suite_label, shifted)).lower()}.')
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
    with_error = 'corruption' in suites
    with_bias = any(shape_bias(results, run) is not None for run in results['classification'])
    if with_error:
        columns.append(Column('Mean error', 'unnormalised', 'min'))
    if with_bias:
        columns.append(Column('Shape bias', '%', 'max'))
    rows = []
    for run, its in results['classification'].items():
        row = [Cell(run, run=run), *(score_cell(suite_score(results, run, suite)) for suite in suites)]
        if with_mean:
            row.append(score_cell(ood_score(results, run)))
        if with_error:
            row.append(number_cell(its.get('corruption', {}).get('mean_error_pct')))
        if with_bias:
            row.append(number_cell(shape_bias(results, run)))
        rows.append(row)
    notes = ['Small print: Wilson 95 % interval over the test images; the training seed is not part of it.']
    if with_error:
        entries = [its['corruption'] for its in results['classification'].values() if 'corruption' in its]
        notes.append(
            f'Corruption is the mean over all kinds and severities (source: {entries[0]["source"]}). '
            'Mean error is 100 minus it: the unnormalised mean error, not mCE, which divides by the errors '
            'of AlexNet.'
        )
    notes += uneven_counts(results)
    return Table('All runs', columns, [_mark_best(columns, rows)], notes)


def uneven_counts(results: dict) -> list[str]:
    """A warning for each suite whose image count differs between runs."""
    warnings = []
    for suite in suite_names(results):
        counts = {run: its[suite]['images'] for run, its in results['classification'].items() if suite in its}
        if len(set(counts.values())) > 1:
            listed = ', '.join(f'{run} {count}' for run, count in counts.items())
            warnings.append(f'Warning: {suite_label(suite)} has different image counts ({listed}): not the same set.')
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
    return Table('Against clean accuracy on the same classes', columns, [_mark_best(columns, rows)])


def detection_tables(results: dict) -> list[Table]:
    """Average precisions of every detector; none where there is no detector."""
    return [table for table in (_detection_table(results),) if table]


def segmentation_tables(results: dict) -> list[Table]:
    """Means over classes and pixels, then IoU by class; none where there is no segmenter."""
    return [table for table in (_segmentation_table(results), _class_table(results)) if table]


BACKBONE = Column('Backbone', number=False)
IMAGES = Column('Images')


def _backbone(entry: dict) -> Cell:
    name = entry.get('backbone', '')
    return Cell(name or MISSING, run=name)


def _detection_table(results: dict) -> Table | None:
    entries = downstream(results, 'detection')
    if not entries:
        return None
    keys = [
        (f'{kind}_{name}', label + ' ' + (name if name == 'mAP' else 'AP' + name.removeprefix('mAP_')))
        for kind, label in (('bbox', 'box'), ('segm', 'mask'))
        for name in PRECISIONS
    ]
    keys = [(key, label) for key, label in keys if any(key in entry for entry in entries)]
    columns = [BACKBONE, *(Column(label, best='max') for _, label in keys), IMAGES]
    rows = []
    for entry in entries:
        # COCO's -1: no object of that size in the set.
        values = [entry.get(key, -1) for key, _ in keys]
        cells = [number_cell(None if value < 0 else value, '{:.3f}') for value in values]
        rows.append([_backbone(entry), *cells, number_cell(entry['images'], '{:,}')])
    notes = ['COCO average precision as a fraction; AP50 and AP75 at one IoU, APs, APm, APl by object size.']
    return Table('Object detection', columns, [_mark_best(columns, rows)], notes)


def _segmentation_table(results: dict) -> Table | None:
    entries = downstream(results, 'segmentation')
    if not entries:
        return None
    keys = ('mIoU', 'mAcc', 'aAcc')
    columns = [BACKBONE, *(Column(key, best='max') for key in keys), IMAGES]
    rows = []
    for entry in entries:
        cells = [number_cell(entry.get(key), '{:.3f}') for key in keys]
        rows.append([_backbone(entry), *cells, number_cell(entry['images'], '{:,}')])
    notes = ['Fractions: mean IoU over classes, mean accuracy over classes, accuracy over all pixels.']
    return Table('Semantic segmentation', columns, [_mark_best(columns, rows)], notes)


def _class_table(results: dict) -> Table | None:
    entries = [entry for entry in downstream(results, 'segmentation') if entry.get('per_class_IoU')]
    if not entries:
        return None
    classes = list(dict.fromkeys(name for entry in entries for name in entry['per_class_IoU']))
    columns = [
        Column('Class', number=False),
        *(Column('IoU', entry.get('backbone', '')) for entry in entries),
    ]
    rows = [
        [Cell(name), *(number_cell(entry['per_class_IoU'].get(name), '{:.3f}') for entry in entries)]
        for name in classes
    ]
    return Table('IoU by class', columns, [rows])


def run_tables(results: dict) -> list[Table]:
    """What was evaluated: architecture, then weights and preprocessing, of every run."""
    runs = results.get('runs')
    if not runs:
        return []
    models = [NAME, *(Column(label, number=False) for label in ('Model', 'Arguments', 'Teacher'))]
    models += [Column('Parameters'), Column('Input', number=False)]
    weights = [NAME, *(Column(label, number=False) for label in ('Mean', 'Std', 'Checkpoint', 'SHA-256'))]
    model_rows, weight_rows = [], []
    for name, run in runs.items():
        arguments = ', '.join(f'{key}={value}' for key, value in run['model_kwargs'].items())
        parameters = number_cell(run['params'], '{:,}')
        size = text_cell('×'.join(map(str, run['input_size'])))
        model = map(text_cell, (run['model'], arguments, run['teacher']))
        model_rows.append([Cell(name, run=name), *model, parameters, size])
        numbers = [' '.join(f'{value:.3g}' for value in run[key]) for key in ('mean', 'std')]
        values = map(text_cell, (*numbers, run['checkpoint'], run['weights_sha256']))
        weight_rows.append([Cell(name, run=name), *values])
    return [Table('Runs', models, [model_rows]), Table('Preprocessing and weights', weights, [weight_rows])]


def downstream_run_table(results: dict) -> Table | None:
    """Config and checkpoint behind each detection and segmentation score."""
    columns = [Column('Task', number=False), BACKBONE]
    columns += [Column('Config', number=False), Column('Checkpoint', number=False)]
    rows = [
        [Cell(section), _backbone(entry), text_cell(entry.get('config')), text_cell(entry.get('checkpoint'))]
        for section in ('detection', 'segmentation')
        for entry in downstream(results, section)
    ]
    return Table('Downstream runs', columns, [rows]) if rows else None


def provenance_tables(results: dict) -> list[Table]:
    """Command, seed, versions and data of each file that went into the report."""
    tables = []
    sources = provenances(results)
    for index, source in enumerate(sources, 1):
        which = f' ({index} of {len(sources)})' if len(sources) > 1 else ''
        facts = [(key.capitalize(), source.get(key)) for key in ('command', 'created', 'seed')]
        facts += [(f'Version of {name}', version) for name, version in source.get('versions', {}).items()]
        rows = [[Cell(label), text_cell(value)] for label, value in facts if value is not None]
        columns = [Column('What', number=False), Column('Value', number=False)]
        if rows:
            tables.append(Table(f'Evaluation{which}', columns, [rows]))
        rows = [
            [Cell(suite_label(suite)), text_cell(its.get('root')), number_cell(its.get('images'), '{:,}')]
            for suite, its in source.get('data', {}).items()
        ]
        columns = [Column('Set', number=False), Column('Folder', number=False), IMAGES]
        if rows:
            tables.append(Table(f'Data{which}', columns, [rows]))
    return tables
