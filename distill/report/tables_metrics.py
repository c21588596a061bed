"""Tables beyond accuracy: corruption errors, effective robustness, calibration, and runs against one another."""

from distill.report.scores import (
    Score,
    corrupted_suites,
    shifted_suites,
    suite_entry,
    suite_fit,
    suite_label,
    suite_names,
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
    signed,
    text_cell,
)

ERROR_COLUMNS = {
    'mean_error_pct': ('Mean error', 'unnormalised'),
    'mce_pct': ('mCE', '÷ AlexNet'),
    'relative_mce_pct': ('Relative mCE', '÷ AlexNet'),
}
"""Both conventions of ImageNet-C, always labelled: papers call either of them mCE."""


def corruption_table(results: dict, suite: str) -> Table | None:
    """The summaries of one corrupted suite, each under its own name."""
    entries = {run: entry for run in results['classification'] if (entry := suite_entry(results, run, suite))}
    keys = [key for key in ERROR_COLUMNS if any(entry.get(key) is not None for entry in entries.values())]
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
    return Table(f'{suite_label(suite)} errors', columns, [mark_best(columns, rows)], notes)


def effective_robustness_table(results: dict) -> Table | None:
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


def calibration_table(results: dict) -> Table | None:
    """Expected calibration error by suite."""
    table = _table_by_suite(results, 'Calibration', 'ece_pct', suite_names(results), '{:.1f}'.format, 'min')
    if table is not None:
        table.notes.append(
            'Expected calibration error in percent, lower is better: how far the confidence is from the accuracy.'
        )
    return table


def _table_by_suite(results: dict, title: str, key: str, suites: list[str], show, best: str) -> Table | None:
    """One number of every run and suite; the suites and runs that have none are left out."""
    runs = results.get('classification', {})
    suites = [s for s in suites if any(suite_entry(results, run, s).get(key) is not None for run in runs)]
    if not suites:
        return None
    columns = [NAME, *(Column(suite_label(suite), best=best) for suite in suites)]
    rows = []
    for run in runs:
        values = [suite_entry(results, run, suite).get(key) for suite in suites]
        cells = [Cell() if value is None else Cell(show(value), value) for value in values]
        rows.append([Cell(run, run=run), *cells])
    return Table(title, columns, [mark_best(columns, rows)])


def comparison_tables(results: dict) -> list[Table]:
    """Every pair that was compared image by image: what one is ahead, and how often both say the same."""
    comparisons = results.get('comparisons', [])
    suites = [suite for suite in suite_names(results) if any(entry['suite'] == suite for entry in comparisons)]
    if not suites:
        return []
    pairs = list(dict.fromkeys((entry['a'], entry['b']) for entry in comparisons))
    found = {(entry['a'], entry['b'], entry['suite']): entry for entry in comparisons}
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


def metric_tables(results: dict) -> dict[str, list[Table]]:
    """The tables above by the section of the report that they belong to; empty lists where there is nothing."""
    corrupted = corrupted_suites(results)
    by_section = {
        'shift': [effective_robustness_table(results)],
        'corruptions': [corruption_table(results, suite) for suite in corrupted],
        'calibration': [calibration_table(results)],
        'comparisons': comparison_tables(results),
    }
    return {name: [table for table in tables if table] for name, tables in by_section.items()}
