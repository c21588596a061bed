"""Scores that follow from those of several runs or suites: relative mCE, baseline fits, differences between runs."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.base.records import Cell
from distill.results.cells import cells_from_json
from distill.results.entries import BaselineFit, Comparison, Results
from distill.results.statistics import logit_line, paired_bootstrap
from distill.robustness import imagenet, metrics
from distill.robustness.predictions import Predictions


def derive(results: Results, out: Path, baselines: Sequence[str] = ()) -> None:
    """Bring all entries that follow from other entries up to date, in place.

    Args:
        results: Contents of ``results.json``.
        out: The folder of the file, with the predictions.
        baselines: Runs through which the line of effective robustness goes; those of the last time where empty.

    Raises:
        ValueError: Baselines do not make a line.
    """
    # AlexNet's errors are of ImageNet's classes.
    normalised = class_fingerprint(imagenet.synsets())
    for run, suites in results['classification'].items():
        subset_top1_pct = results['runs'][run].get('clean_subset_top1_pct', {})
        for suite, entry in suites.items():
            if suite in subset_top1_pct:
                entry['clean_subset_top1_pct'] = subset_top1_pct[suite]
            if 'cells' in entry and entry.get('fingerprint', {}).get('classes') == normalised:
                cells = cells_from_json(entry['cells'])
                entry['mce_pct'], entry['mce_normaliser'] = metrics.mce_pct(cells), metrics.NORMALISER
                if 'clean' in suites:
                    entry['relative_mce_pct'] = metrics.mce_pct(cells, suites['clean']['top1_pct'])
    _fit_baselines(results, baselines)
    results['comparisons'] = _comparisons(results, out)
    for suite, (a, first), (b, second) in _pairs(results.get('unlabelled', {}), out):
        agreement_pct = metrics.agreement_pct(first.names, second.names)
        for run, other in ((a, b), (b, a)):
            results['unlabelled'][run][suite].setdefault('agreement_pct', {})[other] = agreement_pct


def class_fingerprint(classes: Sequence[str]) -> str:
    """Hash a list of class names, to tell it from others."""
    return hashlib.sha256('\n'.join(classes).encode()).hexdigest()


def _fit_baselines(results: Results, baselines: Sequence[str]) -> None:
    """Fit the line through the baselines on each suite, and measure every run against it."""
    known = results.get('baseline_fit', {})
    names = list(baselines) or next((fit['runs'] for fit in known.values()), [])
    if not names:
        return
    scores, results['baseline_fit'] = results['classification'], {}
    for entry in (entry for entries in scores.values() for entry in entries.values()):
        entry.pop('effective_robustness_pct', None)
    common = set.intersection(*(set(scores.get(name, {})) for name in names))
    if 'clean' not in common:
        return
    for suite in sorted(common - {'clean'}):
        clean_pct, shifted_pct = ([scores[name][key]['top1_pct'] for name in names] for key in ('clean', suite))
        slope, intercept = logit_line(clean_pct, shifted_pct)
        fit: BaselineFit = {'slope': slope, 'intercept': intercept, 'space': 'logit', 'runs': names}
        results['baseline_fit'][suite] = fit
        for entries in scores.values():
            if {'clean', suite} <= set(entries):
                entries[suite]['effective_robustness_pct'] = metrics.effective_robustness_pct(
                    entries['clean']['top1_pct'], entries[suite]['top1_pct'], slope, intercept
                )


@dataclass
class Decisions:
    """What a run decided on the benchmark's cells of a suite, without the extra kinds.

    Attributes:
        paths: Of the images.
        cells: The cells.
        hits: Whether each decision was right [cells, images].
        names: Place of each decision among the class names in alphabetical order [cells, images]; -1 for none.
    """

    paths: list[str]
    cells: list[Cell | None]
    hits: np.ndarray
    names: np.ndarray

    @classmethod
    def load(cls, path: Path) -> 'Decisions':
        """Read a run's predictions."""
        stored = Predictions.load(path)
        predicted = stored.predicted[:, :, 0].astype(np.int32)
        # Runs may have the same classes in different orders.
        rank = np.argsort(np.argsort(stored.classes))
        names = np.where(predicted >= 0, rank[predicted], -1)
        main = [place for place, cell in enumerate(stored.cells) if cell is None or not cell.is_extra]
        cells = [stored.cells[place] for place in main]
        return cls(stored.paths, cells, (predicted == stored.labels)[main], names[main])

    def same_images(self, other: 'Decisions') -> bool:
        """Whether both runs were shown the same images in the same cells."""
        return self.paths == other.paths and self.cells == other.cells


def _comparisons(results: Results, out: Path) -> list[Comparison]:
    """Compare every pair of runs on every suite for which both have predictions of the same images.

    Classifiers on frozen features are compared with those of the same kind alone: same method, labels and seed.
    """
    comparisons: list[Comparison] = []
    probes = {name: run.get('probe') for name, run in results['runs'].items()}
    by_kind: dict[str, dict] = {}
    for name, entries in results['classification'].items():
        by_kind.setdefault(str(probes.get(name)), {})[name] = entries
    for suite, (a, first), (b, second) in itertools.chain(*(_pairs(scores, out) for scores in by_kind.values())):
        difference = paired_bootstrap(first.hits, second.hits)
        comparisons.append({
            'a': a,
            'b': b,
            'suite': suite,
            'difference_pct': difference.value,
            'ci95_pct': [difference.low, difference.high],
            'agreement_pct': metrics.agreement_pct(first.names, second.names),
            'images': len(first.paths),
        })  # fmt: skip
    return comparisons


def _pairs(
    scores: Mapping[str, Mapping], out: Path
) -> Iterator[tuple[str, tuple[str, Decisions], tuple[str, Decisions]]]:
    """Find pairs of runs with decisions on the same images.

    Yields:
        The suite, and name and decisions of either run.
    """
    for suite in dict.fromkeys(suite for entries in scores.values() for suite in entries):
        files = {run: out / 'predictions' / run / f'{suite}.npz' for run in scores if suite in scores[run]}
        decisions = {run: Decisions.load(path) for run, path in files.items() if path.is_file()}
        for first, second in itertools.combinations(decisions.items(), 2):
            if first[1].same_images(second[1]):
                yield suite, first, second
