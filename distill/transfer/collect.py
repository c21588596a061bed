"""From the scores of all runs to what was transferred: means over seeds, and differences with their intervals."""

import statistics
from collections.abc import Mapping, Sequence

from distill.results.files import read_results
from distill.results.statistics import mean_and_half_width95
from distill.transfer.matrix import Matrix, Run, evaluation_folder


def read_scores(matrix: Matrix) -> dict[str, dict[str, float]]:
    """Accuracy of each run on each suite, in percent; of corrupted images the mean over kinds and severities.

    Returns:
        Scores by run and suite; ``shape bias`` of the suite whose images' shape and texture disagree is among them.
    """
    scores = {}
    for student in matrix.students:
        for run, suites in read_results(evaluation_folder(matrix, student))['classification'].items():
            scores[run] = {}
            for suite, entry in suites.items():
                if 'mean_error_pct' in entry:
                    scores[run][suite] = 100 - entry['mean_error_pct']
                else:
                    scores[run][suite] = entry['top1_pct']
                if entry.get('shape_bias_pct') is not None:
                    scores[run]['shape bias'] = entry['shape_bias_pct']
    return scores


def mean_and_interval(differences: Sequence[float]) -> dict:
    """Mean of differences that belong together by their seed, with Student's t interval.

    Args:
        differences: One number a seed.

    Returns:
        ``mean``; ``half_width95`` of the interval, or None with a single seed, which tells nothing about the spread.
    """
    mean, half_width95 = mean_and_half_width95(differences)
    return {'mean': mean, 'half_width95': half_width95}


def collect(matrix: Matrix, longer: Mapping[str, int]) -> dict:
    """Summarise an experiment.

    Args:
        matrix: The experiment, all of whose runs were evaluated.
        longer: For each group of taught runs, the epochs that its student alone has time for; empty leaves equal time
            out.

    Returns:
        ``groups``: for each group of runs, for each suite, ``mean`` and ``std`` over the seeds (the sample's, None for
        one seed), in percent. ``transferred``: for each group of taught runs student, teacher and loss, and under
        ``equal_epochs`` and ``equal_time`` for each suite the difference to the student alone in points, seed by
        seed, as `mean_and_interval` gives it.
    """
    scores = read_scores(matrix)
    suites = list(next(iter(scores.values())))
    groups: dict[str, dict] = {}
    for run in [*matrix.alone(), *longer_runs(matrix, longer), *matrix.taught()]:
        groups.setdefault(run.group, {'student': run.student, 'teacher': run.teacher, 'loss': run.loss, 'runs': []})
        groups[run.group]['runs'].append(run.name)
    for group in groups.values():
        group['scores'] = {}
        for suite in suites:
            values = [scores[name][suite] for name in group['runs']]
            std = statistics.stdev(values) if len(values) > 1 else None
            group['scores'][suite] = {'mean': statistics.fmean(values), 'std': std}

    transferred = {}
    for run in matrix.taught():
        epochs = longer.get(run.group)
        same = matrix.epochs_of(run.student)
        baselines = {'equal_epochs': None} | ({'equal_time': None if epochs == same else epochs} if epochs else {})
        entry = {'student': run.student, 'teacher': run.teacher, 'loss': run.loss, 'epochs': same}
        entry['alone_epochs_at_equal_time'] = epochs
        for at, alone_epochs in baselines.items():
            entry[at] = {}
            for suite in suites:
                differences = [
                    scores[Run(run.student, seed, run.teacher, run.loss).name][suite]
                    - scores[Run(run.student, seed, epochs=alone_epochs).name][suite]
                    for seed in matrix.seeds
                ]
                entry[at][suite] = mean_and_interval(differences)
        transferred[run.group] = entry
    return {'seeds': list(matrix.seeds), 'suites': suites, 'groups': groups, 'transferred': transferred}


def longer_runs(matrix: Matrix, longer: Mapping[str, int]) -> list[Run]:
    """The students alone that were given more epochs, each once."""
    students = {run.group: run.student for run in matrix.taught()}
    wanted = {(students[g], epochs) for g, epochs in longer.items() if epochs > matrix.epochs_of(students[g])}
    return [Run(student, seed, epochs=epochs) for student, epochs in sorted(wanted) for seed in matrix.seeds]


def to_tables(summary: Mapping) -> list[tuple[str, list[list[str]]]]:
    """The summary for people: titles, and rows of cells of which the first names the columns."""
    suites, count = summary['suites'], len(summary['seeds'])
    rows = [[name, *(_spread(group['scores'][suite]) for suite in suites)] for name, group in summary['groups'].items()]
    tables = [(f'Scores in percent, mean ± standard deviation over {count} seeds', [['runs', *suites], *rows])]
    for at, title in (('equal_epochs', 'equal epochs'), ('equal_time', 'equal time')):
        rows = [
            [name, *(_difference(entry[at][suite]) for suite in suites)]
            for name, entry in summary['transferred'].items()
            if at in entry
        ]
        title = f'Transferred, at {title}: points above the student alone, ± half of the 95 % interval; * leaves out 0'
        if rows:
            tables.append((title, [['runs', *suites], *rows]))
    return tables


def to_markdown(tables: Sequence[tuple[str, list[list[str]]]]) -> str:
    """Tables of `to_tables` in Markdown."""
    parts = []
    for title, (head, *rows) in tables:
        lines = [f'## {title}', '', f'| {" | ".join(head)} |', '|---' + '|--:' * (len(head) - 1) + '|']
        parts.append('\n'.join([*lines, *(f'| {" | ".join(row)} |' for row in rows)]) + '\n')
    return '\n'.join(parts)


def _spread(score: Mapping) -> str:
    return f'{score["mean"]:.1f}' + (f' ± {score["std"]:.1f}' if score['std'] is not None else '')


def _difference(difference: Mapping) -> str:
    mean, half = difference['mean'], difference['half_width95']
    if half is None:
        return f'{mean:+.1f}'
    return f'{mean:+.1f} ± {half:.1f}' + (' *' if abs(mean) > half else '')
