"""Evaluate several models side by side on the suites, keep every prediction, and go on after a stop."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from distill.base.processes import barrier, rank_and_count
from distill.results.entries import Results
from distill.results.files import new_results, read_results, write_results
from distill.results.provenance import provenance
from distill.results.schema import validate
from distill.robustness.compare import derive
from distill.robustness.images import SuiteImages, Uncorrupted, load_batches
from distill.robustness.jobs import Job, Settings, make_jobs, other_results
from distill.robustness.recorder import Recorder
from distill.robustness.runs import Run, find_classes
from distill.robustness.samples import merge_samples, save_samples
from distill.robustness.suite_table import Suite, find_folder


def evaluate(runs: list[Run], suites: list[Suite], settings: Settings) -> Results:
    """Evaluate all runs on all suites and write ``results.json``, anew after each suite.

    An image is decoded once for all runs of the same size and all corruptions. Scores that the file already has are not
    computed again, and a suite that was stopped goes on with the images that it had not seen. In several processes
    (``torch.distributed``) each takes every n-th image; they meet in the files. So do processes that know nothing of
    one another (``settings.share``): they leave what they have predicted, and an evaluation after them scores it.

    Args:
        runs: Models of the same classes.
        suites: Suites, ``clean`` first; see `choose_suites`.
        settings: How to run.

    Returns:
        The contents of ``results.json``.

    Raises:
        ValueError: The data are not complete, or the file breaks the schema or has results of the same name and other
            weights, data, preprocessing or seed.
    """
    find_classes(runs, settings.data_root)
    rank, processes = settings.share or rank_and_count()
    results = read_results(settings.results) if settings.results.is_file() else new_results()
    before = json.dumps(results)
    _check_names(results, runs, suites, settings)
    _add_runs(results, runs, settings)
    # A record that the schema refuses is to be known before the hours of work, not after them.
    validate(results, str(settings.results))
    plan = {suite.key: make_jobs(suite, runs, results, settings) for suite in suites}
    settings.begin(sum(job.predictions for jobs in plan.values() for job in jobs) // processes)
    barrier()
    for key, jobs in plan.items():
        recorders: dict[str, Recorder] = {}
        for job in jobs:
            recorders |= predict(job, settings)
            for name, run in job.runs.items():
                if run.head is not None and run.head.learnt:
                    results['runs'][name]['learnt'] = run.head.learnt
        if recorders and rank == 0 and settings.share is None:
            _add_scores(results, key, recorders, jobs[0].images, settings)
            _write(results, settings, runs[0].device)
            for part in (part for name in recorders for part in _parts(settings, name, key)):
                part.unlink()
        barrier()
    if settings.share is not None:
        return results
    if rank == 0:
        derive(results, settings.out, settings.baselines)
        if json.dumps(results) != before:
            _write(results, settings, runs[0].device)
    barrier()
    return read_results(settings.results)


def predict(job: Job, settings: Settings) -> dict[str, Recorder]:
    """Show the images of a job to its runs; with several processes, the share of this one.

    Returns:
        By run, the predictions on all images in the first process.
    """
    rank, processes = settings.share or rank_and_count()
    image_set, key = job.image_set, job.image_set.suite.key
    recorders = {name: Recorder(image_set, job.fingerprints[name], job.subsets) for name in job.runs}

    def load_parts() -> None:
        for name, recorder in recorders.items():
            for part in _parts(settings, name, key):
                recorder.load_part(part)

    def save_parts() -> None:
        for name, recorder in recorders.items():
            recorder.save_part(settings.predictions(name) / f'{key}.part{rank}.npz')

    load_parts()
    barrier()
    for run in job.runs.values():
        run.prepare()
    cells = len(image_set.cells)
    left = np.flatnonzero(~np.logical_and.reduce([recorder.done for recorder in recorders.values()]))
    # Processes that start together share what is left; others know their images by the numbers of these.
    own = left[rank::processes] if settings.share is None else left[left % processes == rank]
    settings.advance((len(range(rank, len(job.images), processes)) - len(own)) * cells)
    batches = load_batches(job.images, own, settings.batch_size, settings.workers)
    saved = time.monotonic()
    device = next(iter(job.runs.values())).device
    for shown, indices, modes in batches:
        if isinstance(shown, Uncorrupted):
            shown = shown.corrupted(device)
        portions = shown.flatten(0, 1).split(settings.batch_size)
        # A network whose features several runs classify is run once.
        outputs: dict[tuple, torch.Tensor] = {}
        for name, run in job.runs.items():
            if run.shows not in outputs:
                outputs[run.shows] = torch.cat([run.forward(portion) for portion in portions])
            recorders[name].add(indices, modes, run.decide(outputs[run.shows]).view(*shown.shape[:2], -1))
        settings.advance(len(indices) * cells)
        if time.monotonic() - saved > settings.save_every_s:
            save_parts()
            saved = time.monotonic()
    if processes > 1 or settings.share is not None:
        save_parts()
        barrier()
        load_parts()
    return recorders


def _parts(settings: Settings, run: str, key: str) -> list[Path]:
    """List the files that processes have saved of a suite that is not finished."""
    return sorted(settings.predictions(run).glob(f'{key}.part*.npz'))


def _check_names(results: Results, runs: Sequence[Run], suites: Sequence[Suite], settings: Settings) -> None:
    keys = [suite.key for suite in suites]
    if len(set(keys)) < len(keys):
        raise ValueError(f'two suites are called the same ({", ".join(keys)}); rename a folder')
    names = [*results.get('runs', {}), *(run.name for run in runs)]
    for name in settings.baselines:
        if name not in names:
            raise ValueError(f"baseline '{name}' is no run; choose from {', '.join(dict.fromkeys(names))}")


def _add_runs(results: Results, runs: Sequence[Run], settings: Settings) -> None:
    """List the runs, unless one has the name of a run of other weights or preprocessing."""
    for run in runs:
        known = results.setdefault('runs', {}).get(run.name)
        before, now = dict(known or run.record), dict(run.record)
        differing = [key for key in ('weights_sha256', 'input_size', 'mean', 'std') if before[key] != now[key]]
        if differing:
            raise other_results(settings, f"{', '.join(differing)} for '{run.name}'")
        checkpoint = run.record['checkpoint'] and os.path.relpath(run.record['checkpoint'], settings.out)
        results['runs'][run.name] = {**(known or run.record), **run.record, 'checkpoint': checkpoint}
    results.setdefault('classification', {})


def _add_scores(
    results: Results, key: str, recorders: dict[str, Recorder], images: SuiteImages, settings: Settings
) -> None:
    """Save the predictions and samples of a suite, and add its scores."""
    image_set = images.image_set
    for name, recorder in recorders.items():
        recorder.save(settings.predictions(name) / f'{key}.npz')
        if image_set.labelled:
            results['classification'].setdefault(name, {})[key] = recorder.score()
        else:
            results.setdefault('unlabelled', {}).setdefault(name, {})[key] = {**recorder.shown()}
        if subset_top1_pct := recorder.subset_top1_pct():
            results['runs'][name].setdefault('clean_subset_top1_pct', {}).update(subset_top1_pct)
    if image_set.labelled:
        samples = save_samples(images, recorders, settings.samples, settings.out)
        results['samples'] = merge_samples(results.get('samples', []), samples)
    folder = find_folder(image_set.suite, settings.data_root)
    data = {**results.get('provenance', {}).get('data', {})}
    data[key] = {'root': str(folder), 'images': len(image_set.paths), 'sha256': image_set.sha256}
    results['provenance'] = {'data': data}


def _write(results: Results, settings: Settings, device: str) -> None:
    data = results.get('provenance', {}).get('data', {})
    results['provenance'] = {**provenance(settings.seed, device, settings.command), 'data': data}
    write_results(settings.results, results)
