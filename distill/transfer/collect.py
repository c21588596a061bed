"""From the scores of all runs to what was transferred: means over seeds, and differences with their intervals."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence

from scipy.stats import t as student_t

from distill.transfer.matrix import Matrix, Run, evaluation_folder

CONFIDENCE = 0.95


def read_scores(matrix: Matrix) -> dict[str, dict[str, float]]:
    """Accuracy of each run on each suite, in percent; of corrupted images the mean over kinds and severities.

    Returns:
        Scores by run and suite. Cue conflict's is the shape bias, which is no accuracy.
    """
    scores = {}
    for student in matrix.students:
        path = evaluation_folder(matrix, student) / 'results.json'
        for run, suites in json.loads(path.read_text())['classification'].items():
            scores[run] = {}
            for suite, entry in suites.items():
                if 'mean_error_pct' in entry:
                    scores[run][suite] = 100 - entry['mean_error_pct']
                elif entry.get('shape_bias_pct') is not None:
                    scores[run][f'{suite} (shape bias)'] = entry['shape_bias_pct']
                else:
                    scores[run][suite] = entry['top1_pct']
    return scores


def mean_and_interval(differences: Sequence[float]) -> dict:
    """Mean of differences that belong together by their seed, with Student's t interval.

    Args:
        differences: One number a seed.

    Returns:
        ``mean``; ``ci95`` as [low, high], or None with a single seed, which tells nothing about the spread.
    """
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return {'mean': mean, 'ci95': None}
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    half = float(student_t.ppf(0.5 + CONFIDENCE / 2, len(differences) - 1)) * error
    return {'mean': mean, 'ci95': [mean - half, mean + half]}


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


def to_markdown(summary: Mapping) -> str:
    """The summary as tables."""
    suites = summary['suites']
    head = '| ' + ' | '.join(['runs', *suites]) + ' |\n|---|' + '--:|' * len(suites) + '\n'
    seeds = summary['seeds']
    lines = [f'## Scores\n\nPercent, mean ± standard deviation over {len(seeds)} seeds.\n\n{head}']
    for name, group in summary['groups'].items():
        lines.append(f'| {name} | {" | ".join(_spread(group["scores"][suite]) for suite in suites)} |\n')
    for at, title in (('equal_epochs', 'equal epochs'), ('equal_time', 'equal time')):
        rows = {name: entry for name, entry in summary['transferred'].items() if at in entry}
        if not rows:
            continue
        lines.append(
            f'\n## Transferred, at {title}\n\nPoints above the student alone, seed by seed, with 95 % intervals'
        )
        lines.append(f" (Student's t); bold where the interval leaves out 0.\n\n{head}")
        for name, entry in rows.items():
            lines.append(f'| {name} | {" | ".join(_difference(entry[at][suite]) for suite in suites)} |\n')
    return ''.join(lines)


def _spread(score: Mapping) -> str:
    return f'{score["mean"]:.1f}' + (f' ± {score["std"]:.1f}' if score['std'] is not None else '')


def _difference(difference: Mapping) -> str:
    if difference['ci95'] is None:
        return f'{difference["mean"]:+.1f}'
    low, high = difference['ci95']
    text = f'{difference["mean"]:+.1f} ({low:+.1f} to {high:+.1f})'
    return f'**{text}**' if low > 0 or high < 0 else text
