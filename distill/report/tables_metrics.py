"""Tables beyond accuracy: corruption errors, effective robustness, calibration, and runs against one another."""

from distill.report.scores import (
    Score,
    comparisons,
    corrupted_suites,
    judged_runs,
    shifted_suites,
    suite_entries,
    suite_fit,
    suite_label,
    suite_names,
    suite_values,
)
from distill.report.tables import (
    IMAGES,
    NAME,
    Cell,
    Column,
    Table,
    difference_cell,
    mark_best,
    number_cell,
    seen_notes,
    signed,
    text_cell,
)
from distill.results.entries import Results

ERROR_COLUMNS = {
    'mean_error_pct': ('Mean error', 'unnormalised'),
    'mce_pct': ('mCE', '÷ AlexNet'),
    'relative_mce_pct': ('Relative mCE', '÷ AlexNet'),
    'unseen_mean_error_pct': ('Mean error', 'without seen kinds'),
}
"""Both conventions of ImageNet-C, always with their label, because papers call either of them mCE."""


def corruption_table(results: Results, suite: str) -> Table | None:
    """The summaries of one corrupted suite, each under its own name."""
    entries = suite_entries(results, suite)
    keys = [key for key in ERROR_COLUMNS if suite_values(results, suite, key)]
    if not keys:
        return None
    columns = [NAME, *(Column(*ERROR_COLUMNS[key], 'min') for key in keys)]
    columns += [IMAGES, Column('Source', number=False)]
    rows = [
        [
            Cell(run, run=run),
            *(number_cell(entry.get(key)) for key in keys),
            number_cell(entry['images'], '{:,}'),
            text_cell(entry['source']),
        ]
        for run, entry in entries.items()
    ]
    notes = [
        'Percent, lower is better. Mean error is the plain mean over kinds and severities. It is not mCE, '
        "which divides the error of each kind by AlexNet's before the mean."
    ]
    if 'relative_mce_pct' in keys:
        notes.append('Relative mCE does the same with what each kind adds to the clean error.')
    notes += seen_notes(results, [suite])
    return Table(f'{suite_label(suite)} errors', columns, [mark_best(columns, rows)], notes)


def effective_robustness_table(results: Results) -> Table | None:
    """Shifted accuracy above what the fit on the baselines expects of the clean one."""
    title, key = 'Effective robustness', 'effective_robustness_pct'
    table = _table_by_suite(results, title, key, shifted_suites(results), signed, 'max')
    if table is None:
        return None
    table.notes.append(
        'Points of accuracy above (+) or below (−) what the fit on the baselines expects at this clean accuracy; '
        'the fit is linear between logits (Taori et al., NeurIPS 2020).'
    )
    fits = [fit for suite in shifted_suites(results) if (fit := suite_fit(results, suite)) and fit.baseline]
    if fits:
        table.notes.append(f'Baselines: {", ".join(dict.fromkeys(run for fit in fits for run in fit.runs))}.')
    return table


def calibration_table(results: Results) -> Table | None:
    """Expected calibration error by suite."""
    table = _table_by_suite(results, 'Calibration', 'ece_pct', suite_names(results), '{:.1f}'.format, 'min')
    if table is not None:
        table.notes.append(
            'Expected calibration error in percent, lower is better: how far the confidence is from the accuracy.'
        )
    return table


def _table_by_suite(results: Results, title: str, key: str, suites: list[str], show, best: str) -> Table | None:
    """One number of every run and suite; suites without any are left out."""
    by_suite = {suite: values for suite in suites if (values := suite_values(results, suite, key))}
    if not by_suite:
        return None
    columns = [NAME, *(Column(suite_label(suite), best=best) for suite in by_suite)]
    rows = []
    for run in judged_runs(results):
        numbers = [values.get(run) for values in by_suite.values()]
        cells = [Cell() if number is None else Cell(show(number), number) for number in numbers]
        rows.append([Cell(run, run=run), *cells])
    return Table(title, columns, [mark_best(columns, rows)])


def comparison_tables(results: Results) -> list[Table]:
    """The lead of one run over another, and how often both agree, for every pair that was compared image by image."""
    compared = comparisons(results)
    suites = [suite for suite in suite_names(results) if any(entry['suite'] == suite for entry in compared)]
    if not suites:
        return []
    pairs = list(dict.fromkeys((entry['a'], entry['b']) for entry in compared))
    found = {(entry['a'], entry['b'], entry['suite']): entry for entry in compared}
    columns = [Column('Run', number=False), Column('Against', number=False), *map(Column, map(suite_label, suites))]
    ahead, agreed = [], []
    for a, b in pairs:
        entries = [found.get((a, b, suite)) for suite in suites]
        names = [Cell(a, run=a), Cell(b, run=b)]
        scores = [entry and Score(entry['difference_pct'], *entry['ci95_pct']) for entry in entries]
        ahead.append([*names, *map(difference_cell, scores)])
        agreed.append([*names, *(number_cell(entry and entry.get('agreement_pct')) for entry in entries)])
    return [
        Table(
            'Differences, image by image',
            columns,
            [ahead],
            [
                'Top-1 of the first run minus the second in points; the 95 % interval is of a bootstrap over the '
                'images, in pairs. ▲ and ▼ mark intervals that leave out zero.'
            ],
        ),
        Table('Agreement', columns, [agreed], ['Percent of the images on which both name the same class.']),
    ]


def metric_tables(results: Results) -> dict[str, list[Table]]:
    """The tables above by section of the report; a section without tables has an empty list."""
    corrupted = corrupted_suites(results)
    by_section = {
        'shift': [effective_robustness_table(results)],
        'corruptions': [corruption_table(results, suite) for suite in corrupted],
        'calibration': [calibration_table(results)],
        'comparisons': comparison_tables(results),
    }
    return {name: [table for table in tables if table] for name, tables in by_section.items()}
