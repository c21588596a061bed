"""Scores with their intervals, and which runs belong together: teacher, student alone, student distilled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

SUITES = {
    'clean': 'Clean',
    'stylized': 'Stylized',
    'corruption': 'Corruption',
    'rendition': 'Rendition',
    'sketch': 'Sketch',
    'adversarial': 'Adversarial',
}
"""Names and order of the known suites. Any further suite of a file comes after them, under its own name."""

CORRUPTIONS = (
    *('gaussian_noise', 'shot_noise', 'impulse_noise'),
    *('defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur'),
    *('snow', 'frost', 'fog', 'brightness'),
    *('contrast', 'elastic_transform', 'pixelate', 'jpeg_compression'),
)
"""The order of the ImageNet-C paper: noise, blur, weather, digital."""

Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Score:
    """A value and its 95 % interval, in percent or in points.

    Differences and means combine the intervals of independent scores by the method of variance estimates
    recovery (Zou and Donner, Statistics in Medicine 2008); for the difference of two Wilson intervals that is
    Newcombe's hybrid score interval. Two models judged on the same images are usually positively correlated,
    so the interval of their difference is rather too wide than too narrow.
    """

    value: float
    low: float
    high: float

    def __sub__(self, other: 'Score') -> 'Score':
        value = self.value - other.value
        below = math.hypot(self.value - self.low, other.high - other.value)
        above = math.hypot(self.high - self.value, other.value - other.low)
        return Score(value, value - below, value + above)

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of zero, else 0."""
        return (self.low > 0) - (self.high < 0)


def mean_score(scores: Sequence[Score]) -> Score:
    """The plain mean of independent scores."""
    count = len(scores)
    value = sum(score.value for score in scores) / count
    below = math.hypot(*(score.value - score.low for score in scores)) / count
    above = math.hypot(*(score.high - score.value for score in scores)) / count
    return Score(value, value - below, value + above)


def wilson_score(top1_pct: float, images: int) -> Score:
    """A top-1 accuracy in percent with its Wilson score interval (Wilson, JASA 1927).

    ``(p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)``
    """
    p, n = top1_pct / 100, images
    centre = p + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    scale = 100 / (1 + Z95**2 / n)
    # Rounding must not push the bound past the value itself at 0 and 100 %.
    return Score(top1_pct, min((centre - half) * scale, top1_pct), max((centre + half) * scale, top1_pct))


def suite_names(results: dict) -> list[str]:
    """The suites that any run was judged on: known ones in their order, then the others as they come."""
    found = [suite for suites in results.get('classification', {}).values() for suite in suites]
    return sorted(dict.fromkeys(found), key=lambda suite: [*SUITES, suite].index(suite))


def shifted_suites(results: dict) -> list[str]:
    """All suites but the clean one."""
    return [suite for suite in suite_names(results) if suite != 'clean']


def suite_label(suite: str) -> str:
    return SUITES.get(suite, suite)


def suite_score(results: dict, run: str | None, suite: str) -> Score | None:
    """Top-1 of one run on one suite.

    For corruption the interval counts each image once, not once a cell: the cells share their images, so this
    is an upper bound of the uncertainty.
    """
    entry = results.get('classification', {}).get(run, {}).get(suite)
    return wilson_score(entry['top1_pct'], entry['images']) if entry else None


def shape_bias(results: dict, run: str | None) -> float | None:
    """Percent of shape decisions among the cue-conflict images decided for either cue."""
    return results.get('classification', {}).get(run, {}).get('stylized', {}).get('shape_bias_pct')


def subtract(a: Score | None, b: Score | None) -> Score | None:
    """The difference, or None where either is missing."""
    return a - b if a and b else None


def ood_score(results: dict, run: str | None) -> Score | None:
    """Plain mean over all shifted suites; None unless the run has every one of them."""
    scores = [suite_score(results, run, suite) for suite in shifted_suites(results)]
    return mean_score(scores) if scores and None not in scores else None


def corruption_kinds(results: dict) -> list[str]:
    """The corruptions that any run was judged on, in the order of the paper."""
    found = [
        kind
        for suites in results.get('classification', {}).values()
        for kind in suites.get('corruption', {}).get('cells', {})
    ]
    return sorted(dict.fromkeys(found), key=lambda kind: [*CORRUPTIONS, kind].index(kind))


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
