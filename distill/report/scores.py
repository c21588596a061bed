"""Scores with their intervals, and the runs that belong together: teacher, student alone, student distilled.

Each fact of ``results.json`` about runs and suites is read here; `distill.report.entries` reads the other sections.
"""

from dataclasses import dataclass
from typing import Any

from distill.base.records import KINDS
from distill.results.entries import Comparison, Results, RunRecord, SuiteEntry
from distill.results.statistics import Score, logit_line, mean_score, wilson_score

SUITES = {
    'clean': 'Clean',
    'v2': 'V2',
    'v2_threshold': 'V2 threshold',
    'v2_top': 'V2 top',
    'stylized': 'Stylized',
    'corruption': 'Corruption',
    'rendition': 'Rendition',
    'sketch': 'Sketch',
    'adversarial': 'Adversarial',
    'cue_conflict': 'Cue conflict',
}
"""Names and order of the known suites. Further suites come after them, under their own names."""

FIT_RUNS = 3
"""The fewest runs for a fit: a line goes through any two points."""


def run_entries(results: Results) -> dict[str, RunRecord]:
    """Model, weights and preprocessing of each run, in the order of the report."""
    return results.get('runs', {})


def teachers(results: Results) -> dict[str, str]:
    """The teacher of each distilled run."""
    return {run: entry['teacher'] for run, entry in run_entries(results).items() if entry['teacher'] is not None}


def judged_runs(results: Results) -> list[str]:
    """The runs that were judged on suites."""
    return list(results.get('classification', {}))


def suite_names(results: Results) -> list[str]:
    """The suites that any run was judged on: known ones in their order, then the others as they come."""
    found = [suite for suites in results.get('classification', {}).values() for suite in suites]
    return sorted(dict.fromkeys(found), key=lambda suite: [*SUITES, suite].index(suite))


def shifted_suites(results: Results) -> list[str]:
    """All suites but the clean one."""
    return [suite for suite in suite_names(results) if suite != 'clean']


def suite_label(suite: str) -> str:
    """The name of a suite for people."""
    return SUITES.get(suite, suite)


def suite_entry(results: Results, run: str | None, suite: str) -> SuiteEntry | dict:
    """The measurements of one run on one suite; empty if the run was not judged on it."""
    return results.get('classification', {}).get(run, {}).get(suite, {})


def suite_entries(results: Results, suite: str) -> dict[str, SuiteEntry]:
    """The measurements of each run that was judged on a suite."""
    return {run: entry for run in judged_runs(results) if (entry := suite_entry(results, run, suite))}


def suite_values(results: Results, suite: str, key: str) -> dict[str, Any]:
    """One measurement on a suite of each run that has it."""
    entries = suite_entries(results, suite).items()
    return {run: entry[key] for run, entry in entries if entry.get(key) is not None}


def suite_score(results: Results, run: str | None, suite: str) -> Score | None:
    """Top-1 of one run on one suite, with the interval of the file, or Wilson's where the file has none.

    For corruption the interval counts each image once, and not once a cell: the cells share their images, so the
    interval is an upper bound of the uncertainty.
    """
    entry = suite_entry(results, run, suite)
    if not entry:
        return None
    if 'top1_ci95_pct' in entry:
        return Score(entry['top1_pct'], *entry['top1_ci95_pct'])
    return wilson_score(entry['top1_pct'], entry['images'])


def subtract(a: Score | None, b: Score | None) -> Score | None:
    """The difference of two scores, or None where one is missing."""
    return a - b if a and b else None


def comparisons(results: Results) -> list[Comparison]:
    """The pairs of runs that were compared image by image."""
    return results.get('comparisons', [])


def paired_difference(results: Results, a: str | None, b: str | None, suite: str) -> Score | None:
    """Top-1 of run ``a`` minus that of ``b`` by the file's paired comparison, or None where there is none."""
    for entry in comparisons(results):
        value, (low, high) = entry['difference_pct'], entry['ci95_pct']
        if (entry['a'], entry['b'], entry['suite']) == (a, b, suite):
            return Score(value, low, high)
        if (entry['b'], entry['a'], entry['suite']) == (a, b, suite):
            return Score(-value, -high, -low)
    return None


def suite_difference(results: Results, a: str | None, b: str | None, suite: str) -> Score | None:
    """Top-1 of ``a`` minus that of ``b``: the file's paired comparison, or the difference of independent scores."""
    independent = subtract(suite_score(results, a, suite), suite_score(results, b, suite))
    return paired_difference(results, a, b, suite) or independent


def ood_score(results: Results, run: str | None) -> Score | None:
    """Plain mean over all shifted suites; None if the run lacks one of them."""
    scores = [suite_score(results, run, suite) for suite in shifted_suites(results)]
    return mean_score(scores) if scores and None not in scores else None


def ood_difference(results: Results, a: str | None, b: str | None) -> Score | None:
    """Mean over all shifted suites of `suite_difference`; None if a run lacks one of them."""
    scores = [suite_difference(results, a, b, suite) for suite in shifted_suites(results)]
    return mean_score(scores) if scores and None not in scores else None


def shape_bias_suite(results: Results) -> str | None:
    """The suite whose images set a shape against a texture, or None; the plain cue-conflict set goes first."""
    names = [
        suite
        for suite in suite_names(results)
        if any('shape_bias_pct' in entry for entry in suite_entries(results, suite).values())
    ]
    return min(names, key=lambda suite: suite != 'cue_conflict', default=None)


def shape_bias(results: Results, run: str | None) -> float | None:
    """Percent of shape decisions among the cue-conflict images decided for either cue."""
    return suite_entry(results, run, shape_bias_suite(results) or '').get('shape_bias_pct')


@dataclass(frozen=True)
class Fit:
    """The line ``logit(shifted) = slope · logit(clean) + intercept`` through some runs.

    Attributes:
        slope: Of the line.
        intercept: Of the line.
        runs: Runs that the line was fitted to.
        baseline: Whether the runs are the baselines of the file, and not those of the report.
    """

    slope: float
    intercept: float
    runs: tuple[str, ...]
    baseline: bool


def suite_fit(results: Results, suite: str) -> Fit | None:
    """The file's fit on its baselines, or the least squares fit on the runs where the file has none.

    None where there are fewer than `FIT_RUNS` runs or all have the same clean score.

    The scores of many models lie on a line where both axes are logit-scaled (Taori et al., NeurIPS 2020).
    """
    given = results.get('baseline_fit', {}).get(suite)
    if given:
        return Fit(given['slope'], given['intercept'], tuple(given['runs']), baseline=True)
    clean_pct, shifted_pct = (suite_values(results, name, 'top1_pct') for name in ('clean', suite))
    points = {run: (clean_pct[run], shifted_pct[run]) for run in clean_pct if run in shifted_pct}
    # A score of 0 or 100 % has no logit.
    points = {run: pair for run, pair in points.items() if all(0 < value < 100 for value in pair)}
    clean, shifted = [pair[0] for pair in points.values()], [pair[1] for pair in points.values()]
    if len(points) < FIT_RUNS or max(clean) == min(clean):
        return None
    slope, intercept = logit_line(clean, shifted)
    return Fit(slope, intercept, tuple(points), baseline=False)


def corrupted_suites(results: Results) -> list[str]:
    """The suites that were measured by corruption and severity."""
    return [suite for suite in suite_names(results) if suite_values(results, suite, 'cells')]


def suite_cells(results: Results, run: str, suite: str) -> dict[str, list[float]]:
    """Top-1 of a run by corruption and severity, the extra kinds included; empty if it was not measured."""
    entry = suite_entry(results, run, suite)
    return {**entry.get('cells', {}), **entry.get('extra_cells', {})}


def corruption_kinds(results: Results, suite: str) -> list[str]:
    """The corruptions of a suite that any run was judged on, in the order of the paper; extra kinds come last."""
    found = dict.fromkeys(kind for run in judged_runs(results) for kind in suite_cells(results, run, suite))
    return sorted(found, key=lambda kind: [*KINDS, kind].index(kind))


def seen_kinds(results: Results, run: str, suite: str) -> list[str]:
    """The corruptions of a suite that a run saw in training."""
    seen = run_entries(results)[run].get('seen_kinds', ())
    return [kind for kind in suite_cells(results, run, suite) if kind in seen]


def kind_label(kind: str) -> str:
    """The name of a corruption for people; a plus marks the extra kinds, which are part of no mean."""
    return kind.replace('_', ' ') + ('' if kind in KINDS else ' +')


@dataclass(frozen=True)
class Transfer:
    """The runs of one distillation.

    Attributes:
        student: The distilled student.
        reference: The same model trained alone; None where there is no such run.
        teacher: The teacher, which may be absent from the results.
    """

    student: str
    reference: str | None
    teacher: str

    def runs(self, results: Results) -> list[str]:
        """Teacher, reference and student, as far as the results hold them."""
        return [run for run in (self.teacher, self.reference, self.student) if run in run_entries(results)]


def transfers(results: Results) -> list[Transfer]:
    """Every distilled student with its reference, the run of equal model and arguments without a teacher.

    Artefacts are neither: `distill.report.ledger` follows a student to them.
    """
    runs = {run: entry for run, entry in run_entries(results).items() if 'artefact' not in entry}
    teacher_of = {run: teacher for run, teacher in teachers(results).items() if run in runs}
    found = []
    for student, teacher in teacher_of.items():
        same = [
            run for run in runs if run not in teacher_of and _architecture(runs[run]) == _architecture(runs[student])
        ]
        # Where the same architecture also serves as a teacher, the run that teaches nobody is the baseline.
        same.sort(key=lambda run: run in teacher_of.values())
        found.append(Transfer(student, same[0] if same else None, teacher))
    return found


def _architecture(entry: RunRecord) -> tuple[str, dict]:
    return entry['model'], entry['model_kwargs']
