"""Scores with their intervals, and which runs belong together: teacher, student alone, student distilled."""

from dataclasses import dataclass

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
"""Names and order of the known suites. Any further suite of a file comes after them, under its own name."""

CORRUPTIONS = (
    *('gaussian_noise', 'shot_noise', 'impulse_noise'),
    *('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    *('snow', 'frost', 'fog', 'brightness'),
    *('contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'),
)
"""The order of the ImageNet-C paper: noise, blur, weather, digital."""

FIT_RUNS = 3
"""A line goes through any two points."""


def suite_names(results: dict) -> list[str]:
    """The suites that any run was judged on: known ones in their order, then the others as they come."""
    found = [suite for suites in results.get('classification', {}).values() for suite in suites]
    return sorted(dict.fromkeys(found), key=lambda suite: [*SUITES, suite].index(suite))


def shifted_suites(results: dict) -> list[str]:
    """All suites but the clean one."""
    return [suite for suite in suite_names(results) if suite != 'clean']


def suite_label(suite: str) -> str:
    return SUITES.get(suite, suite)


def suite_entry(results: dict, run: str | None, suite: str) -> dict:
    """What was measured for one run on one suite; empty if it was not."""
    return results.get('classification', {}).get(run, {}).get(suite, {})


def suite_score(results: dict, run: str | None, suite: str) -> Score | None:
    """Top-1 of one run on one suite, with the file's own interval where it has one, else Wilson's.

    For corruption the interval counts each image once, not once a cell: the cells share their images, so this
    is an upper bound of the uncertainty.
    """
    entry = suite_entry(results, run, suite)
    if not entry:
        return None
    if 'top1_ci95_pct' in entry:
        return Score(entry['top1_pct'], *entry['top1_ci95_pct'])
    return wilson_score(entry['top1_pct'], entry['images'])


def subtract(a: Score | None, b: Score | None) -> Score | None:
    """The difference, or None where either is missing."""
    return a - b if a and b else None


def paired_difference(results: dict, a: str | None, b: str | None, suite: str) -> Score | None:
    """Top-1 of run ``a`` minus that of ``b`` by the file's paired comparison, or None where it has none."""
    for entry in results.get('comparisons', []):
        value, (low, high) = entry['difference_pct'], entry['ci95_pct']
        if (entry['a'], entry['b'], entry['suite']) == (a, b, suite):
            return Score(value, low, high)
        if (entry['b'], entry['a'], entry['suite']) == (a, b, suite):
            return Score(-value, -high, -low)
    return None


def suite_difference(results: dict, a: str | None, b: str | None, suite: str) -> Score | None:
    """Top-1 of ``a`` minus that of ``b``, paired where the file compares them, else of independent scores."""
    independent = subtract(suite_score(results, a, suite), suite_score(results, b, suite))
    return paired_difference(results, a, b, suite) or independent


def ood_score(results: dict, run: str | None) -> Score | None:
    """Plain mean over all shifted suites; None unless the run has every one of them."""
    scores = [suite_score(results, run, suite) for suite in shifted_suites(results)]
    return mean_score(scores) if scores and None not in scores else None


def ood_difference(results: dict, a: str | None, b: str | None) -> Score | None:
    """Mean over all shifted suites of `suite_difference`; None unless both runs have every one of them."""
    scores = [suite_difference(results, a, b, suite) for suite in shifted_suites(results)]
    return mean_score(scores) if scores and None not in scores else None


def shape_bias_suite(results: dict) -> str | None:
    """The suite whose images hold a shape against a texture, or None; the plain cue-conflict set goes first."""
    names = [
        suite
        for suite in suite_names(results)
        if any('shape_bias_pct' in its.get(suite, {}) for its in results['classification'].values())
    ]
    return min(names, key=lambda suite: suite != 'cue_conflict', default=None)


def shape_bias(results: dict, run: str | None) -> float | None:
    """Percent of shape decisions among the cue-conflict images decided for either cue."""
    return suite_entry(results, run, shape_bias_suite(results) or '').get('shape_bias_pct')


@dataclass(frozen=True)
class Fit:
    """``logit(shifted) = slope · logit(clean) + intercept`` over some runs; ``baseline``: those of the file."""

    slope: float
    intercept: float
    runs: tuple[str, ...]
    baseline: bool


def suite_fit(results: dict, suite: str) -> Fit | None:
    """The file's fit on its baselines, else the least squares fit on the runs if there are enough of them.

    The scores of many models lie on a line where both axes are logit-scaled (Taori et al., NeurIPS 2020).
    """
    given = results.get('baseline_fit', {}).get(suite)
    if given:
        return Fit(given['slope'], given['intercept'], tuple(given['runs']), baseline=True)
    points = {
        run: (its['clean']['top1_pct'], its[suite]['top1_pct'])
        for run, its in results['classification'].items()
        if {'clean', suite} <= its.keys()
    }
    # A score of 0 or 100 % has no logit.
    points = {run: pair for run, pair in points.items() if all(0 < value < 100 for value in pair)}
    clean, shifted = [pair[0] for pair in points.values()], [pair[1] for pair in points.values()]
    if len(points) < FIT_RUNS or max(clean) == min(clean):
        return None
    slope, intercept = logit_line(clean, shifted)
    return Fit(slope, intercept, tuple(points), baseline=False)


def corrupted_suites(results: dict) -> list[str]:
    """The suites that were measured by corruption and severity."""
    runs = results.get('classification', {}).values()
    return [suite for suite in suite_names(results) if any('cells' in its.get(suite, {}) for its in runs)]


def suite_cells(results: dict, run: str, suite: str) -> dict[str, list[float]]:
    """Top-1 of a run by corruption and severity, the extra kinds included; empty if it was not measured."""
    entry = suite_entry(results, run, suite)
    return {**entry.get('cells', {}), **entry.get('extra_cells', {})}


def corruption_kinds(results: dict, suite: str) -> list[str]:
    """The corruptions that any run was judged on in a suite, in the order of the paper, extra kinds last."""
    found = dict.fromkeys(kind for run in results['classification'] for kind in suite_cells(results, run, suite))
    return sorted(found, key=lambda kind: [*CORRUPTIONS, kind].index(kind))


def kind_label(kind: str) -> str:
    """A corruption for people; a plus marks the extra kinds, which are part of no mean."""
    return kind.replace('_', ' ') + ('' if kind in CORRUPTIONS else ' +')


@dataclass(frozen=True)
class Transfer:
    """A distilled student, the same model trained alone, and the teacher.

    ``reference`` is None where no such run was given. The teacher's run may be absent from the results.
    """

    student: str
    reference: str | None
    teacher: str

    def runs(self, results: dict) -> list[str]:
        """Teacher, reference and student, those that the results know."""
        return [run for run in (self.teacher, self.reference, self.student) if run in results['runs']]


def transfers(results: dict) -> list[Transfer]:
    """Every distilled student with its reference: the run of equal model and arguments without a teacher."""
    runs = results.get('runs', {})
    teachers = {run['teacher'] for run in runs.values()}
    found = []
    for name, run in runs.items():
        if run['teacher'] is None:
            continue
        model = run['model'], run['model_kwargs']
        alone = [other for other, its in runs.items() if its['teacher'] is None]
        same = [other for other in alone if (runs[other]['model'], runs[other]['model_kwargs']) == model]
        # Where the same architecture also serves as a teacher, the run that teaches nobody is the baseline.
        same.sort(key=lambda other: other in teachers)
        found.append(Transfer(name, same[0] if same else None, run['teacher']))
    return found
