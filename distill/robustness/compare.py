"""What follows from the scores of several runs or suites: relative mCE, baseline fits, differences between runs."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from distill.robustness import imagenet, metrics
from distill.robustness.corruptions import EXTRA_KINDS


def derive(results: dict, out: Path, baselines: Sequence[str] = ()) -> None:
    """Bring everything that follows from other entries up to date, in place.

    Args:
        results: Contents of ``results.json``.
        out: Its folder, with the kept predictions.
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
                entry['mce_pct'], entry['mce_normaliser'] = metrics.mce_pct(entry['cells']), metrics.NORMALISER
                if 'clean' in suites:
                    entry['relative_mce_pct'] = metrics.mce_pct(entry['cells'], suites['clean']['top1_pct'])
    _fit_baselines(results, baselines)
    results['comparisons'] = _comparisons(results, out)
    for suite, (a, ours), (b, theirs) in _pairs(results.get('unlabelled', {}), out):
        agreement_pct = metrics.agreement_pct(ours['names'], theirs['names'])
        for run, other in ((a, b), (b, a)):
            results['unlabelled'][run][suite].setdefault('agreement_pct', {})[other] = agreement_pct


def class_fingerprint(classes: Sequence[str]) -> str:
    """A hash that tells lists of classes apart."""
    return hashlib.sha256('\n'.join(classes).encode()).hexdigest()


def _fit_baselines(results: dict, baselines: Sequence[str]) -> None:
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
        slope, intercept = metrics.baseline_fit(clean_pct, shifted_pct)
        fit = {'slope': slope, 'intercept': intercept, 'space': 'logit', 'runs': names}
        results['baseline_fit'][suite] = fit
        for entries in scores.values():
            if {'clean', suite} <= set(entries):
                entries[suite]['effective_robustness_pct'] = metrics.effective_robustness_pct(
                    entries['clean']['top1_pct'], entries[suite]['top1_pct'], slope, intercept
                )


def _comparisons(results: dict, out: Path) -> list[dict]:
    """Every pair of runs on every suite for which both have predictions of the same images."""
    comparisons = []
    for suite, (a, ours), (b, theirs) in _pairs(results['classification'], out):
        difference, interval = metrics.paired_bootstrap_pct(ours['hits'], theirs['hits'])
        comparisons.append({
            'a': a,
            'b': b,
            'suite': suite,
            'difference_pct': difference,
            'ci95_pct': interval,
            'agreement_pct': metrics.agreement_pct(ours['names'], theirs['names']),
            'images': len(ours['paths']),
        })  # fmt: skip
    return comparisons


def _pairs(scores: Mapping[str, Mapping], out: Path) -> Iterator[tuple[str, tuple[str, dict], tuple[str, dict]]]:
    """Suite, and two runs with their decisions on the same images of it."""
    for suite in dict.fromkeys(suite for entries in scores.values() for suite in entries):
        files = {run: out / 'predictions' / run / f'{suite}.npz' for run in scores if suite in scores[run]}
        decisions = {run: _decisions(path) for run, path in files.items() if path.is_file()}
        for ours, theirs in itertools.combinations(decisions.items(), 2):
            if all(ours[1][key] == theirs[1][key] for key in ('paths', 'cells')):
                yield suite, ours, theirs


def _decisions(path: Path) -> dict:
    """A run's decisions on the benchmark's cells, by class in alphabetical order."""
    with np.load(path) as stored:
        predicted, labels = stored['predicted'][:, :, 0].astype(np.int32), stored['labels']
        rank = np.argsort(np.argsort(stored['classes']))
        names = np.where(predicted >= 0, rank[predicted], -1)
        cells, paths = stored['cells'].tolist(), stored['paths'].tolist()
    main = [k for k, cell in enumerate(cells) if cell.partition(' ')[0] not in EXTRA_KINDS]
    return {
        'paths': paths,
        'cells': [cells[k] for k in main],
        'hits': (predicted == labels)[main],
        'names': names[main],
    }
