"""The scores of certain weights in files of results: told by the hash of the weights, never by a name alone."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from distill.report.entries import DOWNSTREAM, backbone, downstream, provenances
from distill.report.scores import SUITES, suite_score
from distill.results.entries import Provenance, Results, RunRecord, SuiteEntry
from distill.results.files import read_results
from distill.results.statistics import Score


@dataclass(frozen=True)
class SuiteScore:
    """The weights on a suite.

    Attributes:
        suite: Its key.
        score: Top-1 with its interval.
        entry: All that was measured.
        root: Folder of the images, as it was given; empty where the file does not tell.
    """

    suite: str
    score: Score
    entry: SuiteEntry
    root: str


@dataclass
class Measured:
    """What files of results say about certain weights.

    Attributes:
        runs: The entries of the weights, by the names of their runs.
        others: The entries of other runs in the same files.
        suites: Scores, known suites first.
        downstream: Section and entry of each detector or segmenter with these weights as its backbone.
        provenances: Where the numbers come from.
    """

    runs: dict[str, RunRecord] = field(default_factory=dict)
    others: dict[str, RunRecord] = field(default_factory=dict)
    suites: list[SuiteScore] = field(default_factory=list)
    downstream: list[tuple[str, dict]] = field(default_factory=list)
    provenances: list[Provenance] = field(default_factory=list)


def measured(paths: Sequence[str | os.PathLike], sha256: str) -> Measured:
    """Collect the scores of weights.

    Args:
        paths: Files of results, or their folders.
        sha256: Hash of the weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A file is none of results, has no score of these weights, or contradicts another.
    """
    files = [(os.fspath(path), read_results(path)) for path in paths]
    found = Measured()
    for _, results in files:
        for name, run in results.get('runs', {}).items():
            (found.runs if run['weights_sha256'] == sha256 else found.others)[name] = run
    for path, results in files:
        suites = [one for name in found.runs if _is_own(results, name, sha256) for one in _suites(results, name)]
        heads = [
            (section, entry)
            for section in DOWNSTREAM
            for entry in downstream(results, section)
            if (name := backbone(entry)) in found.runs and _may_be_own(results, name, sha256)
        ]
        if not suites and not heads:
            raise ValueError(_none_of_them(path, results, found, sha256))
        for one in suites:
            _add(found, one, path)
        found.downstream += [one for one in heads if one not in found.downstream]
        found.provenances += [one for one in provenances(results) if one not in found.provenances]
    found.suites.sort(key=lambda one: [*SUITES, one.suite].index(one.suite))
    return found


def _is_own(results: Results, name: str, sha256: str) -> bool:
    return results.get('runs', {}).get(name, {}).get('weights_sha256') == sha256


def _may_be_own(results: Results, name: str, sha256: str) -> bool:
    """Whether a file does not give a name to a run of other weights."""
    return name not in results.get('runs', {}) or _is_own(results, name, sha256)


def _suites(results: Results, run: str) -> list[SuiteScore]:
    """The scores of a run."""
    found = []
    for suite, entry in results.get('classification', {}).get(run, {}).items():
        score = suite_score(results, run, suite)
        assert score is not None
        shown = entry.get('fingerprint', {}).get('data')
        records = [source.get('data', {}).get(suite, {}) for source in provenances(results)]
        same = [one for one in records if shown is None or one.get('sha256') in (None, shown)]
        root = next((one['root'] for one in same if one.get('root')), '')
        found.append(SuiteScore(suite, score, entry, root))
    return found


def _add(found: Measured, one: SuiteScore, path: str) -> None:
    """Add a score, unless it is there.

    Raises:
        ValueError: The same images gave another score, or the score is of other weights than its run.
    """
    fingerprint = one.entry.get('fingerprint', {})
    hashes = {run['weights_sha256'] for run in found.runs.values()}
    if fingerprint.get('weights', next(iter(hashes))) not in hashes:
        raise ValueError(
            f"'{path}': the scores on {one.suite} are of weights {fingerprint['weights'][:12]}, and not of those that "
            'its run names; judge the model again'
        )
    for other in found.suites:
        if other.suite == one.suite and other.root == one.root and other.entry.get('fingerprint', {}) == fingerprint:
            if other.entry['top1_pct'] != one.entry['top1_pct']:
                raise ValueError(
                    f"'{path}' contradicts a file before it: top-1 on {one.suite} is {one.entry['top1_pct']} and "
                    f'{other.entry["top1_pct"]} on the same images; leave one of the two out'
                )
            return
    found.suites.append(one)


def _none_of_them(path: str, results: Results, found: Measured, sha256: str) -> str:
    """The error about a file without a score of the weights."""
    backbones = sorted({backbone(entry) for section in DOWNSTREAM for entry in downstream(results, section)})
    if backbones:
        known = f'the run {", ".join(found.runs)}' if found.runs else 'none'
        return (
            f"'{path}' has scores with the backbone {', '.join(backbones)}, and of the runs in all files {known} has "
            'the weights that are saved; give the results.json of `robustness` with that run as well, or leave it out'
        )
    if results.get('scores') and not results.get('runs'):
        return f"'{path}' does not say of which weights its scores are; give a results.json of `robustness`"
    others = ', '.join(f'{name} {run["weights_sha256"][:12]}' for name, run in results.get('runs', {}).items())
    return (
        f"'{path}' has no score of the weights that are saved ({sha256[:12]}), but of {others or 'none'}; "
        'judge the saved model by `robustness`, or leave the file out'
    )
