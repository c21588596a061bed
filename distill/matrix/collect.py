"""The results of a transfer experiment: mean scores over seeds, and differences to students alone."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from distill.base.markdown import table
from distill.matrix.matrix import Matrix, Run
from distill.matrix.scene_scores import image_interval, read_scene_scores
from distill.matrix.scenes import SceneMatrix
from distill.matrix.timing import longer_runs, step_time_s
from distill.results.files import read_results
from distill.results.statistics import mean_and_half_width95

Scores = Mapping[str, Mapping[str, float]]
"""Percent by run and suite."""


def read_scores(matrix: Matrix) -> dict[str, dict[str, float]]:
    """Read the accuracy of each run on each suite, in percent.

    Returns:
        Scores by run and suite; a corrupted suite's is the mean over kinds and severities. ``shape bias`` stands among
        the suites where images whose shape and texture disagree were judged.
    """
    if isinstance(matrix, SceneMatrix):
        return read_scene_scores(matrix)
    scores = {}
    for student in matrix.bases:
        for run, suites in read_results(matrix.scores_folder(student))['classification'].items():
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
    """Mean of differences, one a seed, with Student's t interval.

    Args:
        differences: One number a seed.

    Returns:
        ``mean``; ``half_width95`` of the interval, or None for a single seed, which has no spread.
    """
    mean, half_width95 = mean_and_half_width95(differences)
    return {'mean': mean, 'half_width95': half_width95}


def collect(matrix: Matrix, epochs_of_group: Mapping[str, int]) -> dict:
    """Summarise an experiment.

    Args:
        matrix: The experiment, all of whose runs were evaluated.
        epochs_of_group: For each group of taught runs, the epochs for which its student alone has time; empty leaves
            equal time out.

    Returns:
        ``groups``: for each group of runs, for each suite, ``mean`` and ``std`` over the seeds (the sample's, None for
        one seed), in percent. ``transferred``: for each group of taught runs student, teacher, loss and corruption, and
        under ``equal_epochs`` and ``equal_time`` for each suite the difference to the student alone in points, seed by
        seed, as `mean_and_interval` gives it; where the student trained on corrupted images, ``same_corruption`` has
        the difference to the student alone on such images. Of detectors and segmenters ``images95`` stands beside the
        interval over seeds: that of the images, which are drawn anew, the same for all seeds. ``augmented``: for each
        group of students alone on corrupted images the difference to the student alone, under ``equal_epochs``.
    """
    scores = read_scores(matrix)
    # A teacher may find more than its students, such as masks.
    suites = [suite for suite in next(iter(scores.values())) if all(suite in found for found in scores.values())]
    runs = [*matrix.alone(), *longer_runs(matrix, epochs_of_group), *matrix.taught()]
    transferred = {}
    for run in matrix.taught():
        if run.seed == matrix.seeds[0]:
            transferred[run.group] = _transfer(matrix, run, epochs_of_group.get(run.group), scores, suites)
    summary = {'seeds': list(matrix.seeds), 'suites': suites, 'groups': _groups(runs, scores, suites)}
    if isinstance(matrix, SceneMatrix):
        summary['unit'] = matrix.unit.word
        for group in summary['groups'].values():
            group['step_s'] = statistics.median(step_time_s(matrix.work_dir / 'runs' / name) for name in group['runs'])
    summary['transferred'] = transferred
    if matrix.corruptions:
        firsts = [run for run in matrix.alone() if run.corruption and run.seed == matrix.seeds[0]]
        summary['augmented'] = {
            run.group: {
                'student': run.student,
                'corruption': run.corruption,
                'equal_epochs': _differences(matrix, run, Run(run.student, run.seed), scores, suites),
            }
            for run in firsts
        }
    return summary


def _groups(runs: Sequence[Run], scores: Scores, suites: Sequence[str]) -> dict[str, dict]:
    """Mean and standard deviation of each group of runs on each suite."""
    groups: dict[str, dict] = {}
    for run in runs:
        groups.setdefault(run.group, {'student': run.student, 'teacher': run.teacher, 'loss': run.loss, 'runs': []})
        groups[run.group]['runs'].append(run.name)
    for group in groups.values():
        group['scores'] = {}
        for suite in suites:
            values = [scores[name][suite] for name in group['runs']]
            std = statistics.stdev(values) if len(values) > 1 else None
            group['scores'][suite] = {'mean': statistics.fmean(values), 'std': std}
    return groups


def _transfer(matrix: Matrix, run: Run, equal_time: int | None, scores: Scores, suites: Sequence[str]) -> dict:
    """The differences of a taught run's group to its student alone.

    Args:
        matrix: The experiment.
        run: A run of the group.
        equal_time: Epochs for which the student alone has time; None leaves equal time out.
        scores: Scores of all runs.
        suites: The suites.
    """
    epochs = matrix.epochs_of(run.student)
    baselines = {'equal_epochs': None}
    if equal_time:
        baselines['equal_time'] = None if equal_time == epochs else equal_time
    entry = {'student': run.student, 'teacher': run.teacher, 'loss': run.loss, 'epochs': epochs}
    entry['alone_epochs_at_equal_time'] = equal_time
    if run.corruption:
        entry['corruption'] = run.corruption
        alone = Run(run.student, run.seed, corruption=run.corruption)
        entry['same_corruption'] = _differences(matrix, run, alone, scores, suites)
    for name, alone_epochs in baselines.items():
        alone = Run(run.student, run.seed, epochs=alone_epochs)
        entry[name] = _differences(matrix, run, alone, scores, suites)
    return entry


def _differences(matrix: Matrix, run: Run, reference: Run, scores: Scores, suites: Sequence[str]) -> dict:
    """The differences of a group of runs to another, seed by seed, on each suite."""
    names = [[replace(one, seed=seed).name for one in (run, reference)] for seed in matrix.seeds]
    pairs = [[scores[name] for name in pair] for pair in names]
    found = {suite: mean_and_interval([a[suite] - b[suite] for a, b in pairs]) for suite in suites}
    if isinstance(matrix, SceneMatrix):
        for suite, interval in image_interval(matrix, *zip(*names, strict=True)).items():
            found[suite]['images95'] = interval
    return found


def to_tables(summary: Mapping) -> list[tuple[str, list[list[str]]]]:
    """The summary as tables: titles, and rows of cells of which the first row names the columns."""
    suites, count, unit = summary['suites'], len(summary['seeds']), summary.get('unit', 'epochs')
    rows = [[name, *(_spread(group['scores'][suite]) for suite in suites)] for name, group in summary['groups'].items()]
    tables = [(f'Scores in percent, mean ± standard deviation over {count} seeds', [['runs', *suites], *rows])]
    comparisons = (
        ('transferred', 'equal_epochs', f'Transferred, at equal {unit}: points above the student alone'),
        ('transferred', 'equal_time', 'Transferred, at equal time: points above the student alone'),
        (
            'transferred',
            'same_corruption',
            'Transferred, beyond the corruption: points above the student with that alone',
        ),
        ('augmented', 'equal_epochs', 'By the corruption alone: points above the student alone'),
    )
    for part, at, title in comparisons:
        rows = [
            [name, *(_difference(entry[at][suite]) for suite in suites)]
            for name, entry in summary.get(part, {}).items()
            if at in entry
        ]
        if rows:
            tables.append((f'{title}, ± half of the 95 % interval; * leaves out 0', [['runs', *suites], *rows]))
    if times := {name: group['step_s'] for name, group in summary['groups'].items() if 'step_s' in group}:
        rows = [[name, f'{step_s:.3f}'] for name, step_s in times.items()]
        tables.append(('Time of a training step', [['runs', 'seconds'], *rows]))
    return tables


def to_markdown(tables: Sequence[tuple[str, list[list[str]]]]) -> str:
    """Lay out the tables of `to_tables` as a page of Markdown."""
    return '\n'.join(f'## {title}\n\n{table(head, rows)}\n' for title, (head, *rows) in tables)


def _spread(score: Mapping) -> str:
    return f'{score["mean"]:.1f}' + (f' ± {score["std"]:.1f}' if score['std'] is not None else '')


def _difference(difference: Mapping) -> str:
    mean, half = difference['mean'], difference['half_width95']
    text = f'{mean:+.1f}'
    if half is not None:
        text += f' ± {half:.1f}' + (' *' if abs(mean) > half else '')
    if 'images95' in difference:
        low, high = difference['images95']
        text += f' [{low:+.1f}, {high:+.1f}]'
    return text
