"""The fingerprint of a report: weights, preprocessing, data, counts, problems, versions and seed."""

from distill.report.entries import DOWNSTREAM, downstream, problems, provenances, unlabelled
from distill.report.scores import run_entries, suite_entries, suite_label, suite_names
from distill.report.tables import (
    BACKBONE,
    IMAGES,
    MISSING,
    NAME,
    Cell,
    Column,
    Table,
    backbone_cell,
    number_cell,
    text_cell,
)
from distill.results.entries import Results, UnlabelledEntry


def run_tables(results: Results) -> list[Table]:
    """Architecture, then weights and preprocessing, of every run."""
    runs = run_entries(results)
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


def downstream_run_table(results: Results) -> Table | None:
    """Config and checkpoint behind each detection and segmentation score."""
    columns = [Column('Task', number=False), BACKBONE]
    columns += [Column('Config', number=False), Column('Checkpoint', number=False)]
    rows = [
        [Cell(section), backbone_cell(entry), text_cell(entry.get('config')), text_cell(entry.get('checkpoint'))]
        for section in DOWNSTREAM
        for entry in downstream(results, section)
    ]
    return Table('Downstream runs', columns, [rows]) if rows else None


def suite_run_table(results: Results) -> Table | None:
    """Image counts, input size and source of each suite, over all runs."""
    suites = suite_names(results)
    if not suites:
        return None
    shown = {'Images': 'images', 'Classes': 'classes', 'Input': 'input_size', 'Source': 'source', 'Frost': 'frost'}
    shown |= {'Definition': 'definition', 'Corrupted on': 'corrupted_on'}
    rows = []
    for suite in suites:
        entries = suite_entries(results, suite).values()
        found = ([entry[key] for entry in entries if key in entry] for key in shown.values())
        values = (' / '.join(dict.fromkeys(map(_shown, values))) for values in found)
        rows.append([Cell(suite_label(suite)), *map(text_cell, values)])
    used = [0, *(index for index in range(1, len(shown) + 1) if any(row[index].text != MISSING for row in rows))]
    columns = [Column('Suite', number=False), *(Column(label, number=False) for label in shown)]
    return Table('Suites', [columns[i] for i in used], [[[row[i] for i in used] for row in rows]])


def _shown(value: object) -> str:
    """A value of a suite for people; a list is a size."""
    if isinstance(value, list):
        return '×'.join(map(str, value))
    return f'{value:,}' if isinstance(value, int) else str(value)


def unlabelled_table(results: Results) -> Table | None:
    """Image folders without labels, for which there are predictions only."""
    rows = [
        [Cell(run, run=run), text_cell(folder), number_cell(entry['images'], '{:,}'), text_cell(_agreement(entry))]
        for run, folder, entry in unlabelled(results)
    ]
    columns = [NAME, Column('Folder', number=False), IMAGES, Column('Decides like', number=False)]
    return Table('Predicted without labels', columns, [rows]) if rows else None


def _agreement(entry: UnlabelledEntry) -> str:
    return ', '.join(f'{run} {share:.1f} %' for run, share in entry.get('agreement_pct', {}).items())


def problem_table(results: Results) -> Table | None:
    """Problems with images or outputs; equal problems of several runs are one row."""
    found = problems(results)
    if not found:
        return None
    columns = [Column('Suite', number=False), Column('Problem', number=False), Column('Times')]
    columns.append(Column('Runs', number=False))
    rows = [
        [
            Cell(suite_label(suite)),
            text_cell(problem.replace('_', ' ')),
            number_cell(count, '{:,}'),
            text_cell(', '.join(runs)),
        ]
        for (suite, problem, count), runs in found.items()
    ]
    return Table('Problems', columns, [rows])


def provenance_tables(results: Results) -> list[Table]:
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
            [
                Cell(suite_label(suite)),
                text_cell(image_set.get('root')),
                number_cell(image_set.get('images'), '{:,}'),
                text_cell(image_set.get('sha256')),
            ]
            for suite, image_set in source.get('data', {}).items()
        ]
        columns = [Column('Set', number=False), Column('Folder', number=False), IMAGES]
        columns.append(Column('SHA-256', 'of paths and sizes', number=False))
        if rows:
            tables.append(Table(f'Data{which}', columns, [rows]))
    return tables
