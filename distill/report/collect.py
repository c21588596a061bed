"""Read ``results.json`` files and merge them into one."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path

from distill.report.entries import DOWNSTREAM, downstream, provenances
from distill.report.scores import corrupted_suites, suite_values
from distill.results.entries import Results, Sample
from distill.results.files import read_results
from distill.results.schema import FILE_NAME


def load(folder: Path) -> Results:
    """Read and check the ``results.json`` of one folder.

    Raises:
        FileNotFoundError: There is no such folder or no such file in it.
        ValueError: The file is not JSON or breaks the schema.
    """
    path = folder / FILE_NAME
    if not folder.is_dir():
        raise FileNotFoundError(f'folder {folder} does not exist; give a folder that holds a {FILE_NAME}')
    if not path.is_file():
        raise FileNotFoundError(f'{folder} holds no {FILE_NAME}; tools/robustness.py writes one')
    return read_results(path)


def collect(folders: Sequence[str | Path], out: str | Path) -> Results:
    """Merge several ``results.json`` into one, whose paths are relative to ``out``.

    Equal entries may repeat. Detections and segmentations of further files go to ``others`` of the first one,
    and a sample image that other runs saw too (the same bytes) becomes one sample.

    Args:
        folders: Folders with a ``results.json`` each, the first one first.
        out: Folder in which the merged results will lie.

    Returns:
        Results in schema version 1.

    Raises:
        FileNotFoundError: See `load`.
        ValueError: See `load`, or two files contradict each other.
    """
    folders = [Path(folder) for folder in folders]
    loaded = [(folder, _relocated(load(folder), folder, Path(out))) for folder in folders]
    merged = loaded[0][1]
    for folder, results in loaded[1:]:
        names = f'{folders[0]} and {folder}' if len(loaded) == 2 else f'{folder} and the folders before it'
        _merge_runs(merged, results, names)
        for section in ('classification', 'unlabelled', 'baseline_fit'):
            if section in results:
                _merge(merged.setdefault(section, {}), results[section], names, section)
        _merge_samples(merged, results, names, Path(out))
        _merge_lists(merged, results)
        for section in DOWNSTREAM:
            _merge_downstream(merged, results, section)
    if len(loaded) > 1:
        sources = [source for _, results in loaded for source in provenances(results)]
        merged['provenance'] = {'merged_from': sources}
    _check_one_source(merged)
    return merged


def _relocated(results: Results, old: Path, new: Path) -> Results:
    """A copy whose relative paths start at ``new`` instead of ``old``."""
    results = deepcopy(results)
    # Resolved, because '..' leads elsewhere from a linked folder, and nowhere from a folder that is yet to be made.
    old, new = old.resolve(), new.resolve()
    for holder, key in _paths(results):
        value = holder[key]
        if value is not None and not os.path.isabs(value):
            holder[key] = Path(os.path.relpath(old / value, new)).as_posix()
    return results


def _paths(results: Results) -> Iterator[tuple[dict | list, str | int]]:
    """The places of all paths: the object or list, and the key or index in it."""
    for run in results.get('runs', {}).values():
        yield run, 'checkpoint'
    for sample in results.get('samples', []):
        yield sample, 'image'
    for section in DOWNSTREAM:
        for entry in downstream(results, section):
            yield from ((entry, key) for key in ('checkpoint', 'per_image') if key in entry)
            pictures = entry.get('pictures', [])
            yield from ((pictures, index) for index in range(len(pictures)))
    for pair in results.get('explain', []):
        yield from ((pair['figures'], name) for name in pair['figures'])


def _merge(target: dict, new: dict, names: str, where: str) -> None:
    """Add new values to ``target``, and refuse values that contradict it."""
    for key, value in new.items():
        if key not in target:
            target[key] = value
        elif isinstance(value, dict) and isinstance(target[key], dict):
            _merge(target[key], value, names, f'{where}.{key}')
        elif target[key] != value:
            raise ValueError(
                f'{names} contradict each other: {where}.{key} is {target[key]!r} and {value!r}; '
                'leave one folder out or rename the run'
            )


def _merge_runs(merged: Results, results: Results, names: str) -> None:
    runs = merged.setdefault('runs', {})
    for name, run in results.get('runs', {}).items():
        if name in runs:
            known_hash, new_hash = runs[name]['weights_sha256'], run['weights_sha256']
            if known_hash != new_hash:
                raise ValueError(
                    f'run {name!r} has weights {known_hash[:12]} and {new_hash[:12]} in {names}; '
                    'results of different weights cannot be merged: rename one of the runs'
                )
            # Copies of one file may have been evaluated.
            run = {**run, 'checkpoint': runs[name]['checkpoint']}
        _merge(runs, {name: run}, names, 'runs')


def _merge_samples(merged: Results, results: Results, names: str, out: Path) -> None:
    def identity(sample: Sample) -> tuple[str, str, str]:
        path = Path(os.path.normpath(out.resolve() / sample['image']))
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else sample['image']
        return sample['suite'], sample['target'], content

    samples = {identity(sample): sample for sample in merged.get('samples', [])}
    for sample in results.get('samples', []):
        known = samples.setdefault(identity(sample), sample)
        if known is not sample:
            _merge(known['predictions'], sample['predictions'], names, f'samples {known["image"]}')
    if samples:
        merged['samples'] = list(samples.values())


def _merge_lists(merged: Results, results: Results) -> None:
    """Add the comparisons and explained pairs that are not there yet."""
    for section in ('comparisons', 'explain'):
        if section in results:
            known = merged.setdefault(section, [])
            known += [entry for entry in results[section] if entry not in known]


def _merge_downstream(merged: Results, results: Results, section: str) -> None:
    known = downstream(merged, section)
    for entry in downstream(results, section):
        entry = {key: value for key, value in entry.items() if key != 'others'}
        if section not in merged:
            merged[section] = entry
        elif entry not in known:
            merged[section].setdefault('others', []).append(entry)


def _check_one_source(results: Results) -> None:
    """Refuse corruptions made on the fly beside those of a disk set (JPEG-compressed): the benchmarks differ."""
    for suite in corrupted_suites(results):
        sources = {}
        for run, source in suite_values(results, suite, 'source').items():
            sources.setdefault(source, run)
        if len(sources) > 1:
            listed = ', '.join(f'{source!r} (run {run!r})' for source, run in sources.items())
            raise ValueError(f'corruption sources do not compare: {listed}; report them separately')
