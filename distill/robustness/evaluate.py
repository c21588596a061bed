"""Evaluate several models side by side on the suites, keep every prediction, and go on after a stop."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import timm
import torch

from backbones.files import atomic_write
from distill.base.processes import barrier, rank_and_count
from distill.robustness import imagenet
from distill.robustness.compare import class_fingerprint, derive
from distill.robustness.corruptions import DEFINITIONS, frost_source
from distill.robustness.images import SuiteImages, load_batches
from distill.robustness.recorder import Recorder
from distill.robustness.runs import Run, find_classes
from distill.robustness.samples import merge_samples, save_samples
from distill.robustness.suites import ON_THE_FLY, ImageSet, Suite, find_folder, open_suite, suites_for

SCHEMA_VERSION = 1
RESULTS = 'results.json'


@dataclass
class Settings:
    """How an evaluation is run.

    Attributes:
        data_root: Folder with the suites' folders.
        out: Folder that ``results.json``, predictions and samples go to.
        batch_size: Images a forward pass.
        workers: Processes that decode and corrupt.
        seed: Seed of the corruptions.
        corruption_limit: Images that are corrupted, spread evenly over the classes; None takes all.
        extra_corruptions: Also the four kinds that ImageNet-C holds out.
        definition: Whose corruptions are made, 'imagenet_c' or 'imagecorruptions': they differ in elastic and frost.
        baselines: Runs through which the line of effective robustness goes.
        samples: Images a suite that are saved for the report.
        save_every_s: Seconds between saves of what has been predicted: what a stop loses at most.
        begin: Called with the number of predictions to come.
        advance: Called with the number of predictions after each batch.
    """

    data_root: str
    out: Path
    batch_size: int = 100
    workers: int = 1
    seed: int = 0
    corruption_limit: int | None = None
    extra_corruptions: bool = False
    definition: str = DEFINITIONS[0]
    baselines: Sequence[str] = ()
    samples: int = 6
    save_every_s: float = 30
    begin: Callable[[int], None] = field(default=lambda count: None)
    advance: Callable[[int], None] = field(default=lambda count: None)


@dataclass
class Job:
    """Runs that are shown the same images of a suite and have no score on it yet."""

    images: SuiteImages
    runs: dict[str, Run]
    fingerprints: dict[str, dict]
    subsets: dict[str, list[int]]

    @property
    def image_set(self) -> ImageSet:
        """What is evaluated on."""
        return self.images.image_set


def evaluate(runs: list[Run], suites: list[Suite], settings: Settings) -> dict:
    """Evaluate all runs on all suites and write ``results.json``, anew after each suite.

    An image is decoded once for all runs of the same size and all corruptions. Scores that the file already has are not
    computed again, and a suite that was stopped goes on with the images that it had not seen. In several processes
    (``torch.distributed``) each takes every n-th image; they meet in the files.

    Args:
        runs: Models of the same classes.
        suites: Suites, ``clean`` first; see `choose_suites`.
        settings: How to run.

    Returns:
        The contents of ``results.json``.

    Raises:
        ValueError: The data are not complete, or the file has results of the same name and other weights, data,
            preprocessing or seed.
    """
    find_classes(runs, settings.data_root)
    rank, processes = rank_and_count()
    path = settings.out / RESULTS
    results = json.loads(path.read_text()) if path.is_file() else {'schema_version': SCHEMA_VERSION}
    before = json.dumps(results)
    _check_names(results, runs, suites, settings)
    _add_runs(results, runs, settings)
    plan = {suite.key: make_jobs(suite, runs, results, settings) for suite in suites}
    counts = [len(job.images) * len(job.image_set.cells) for jobs in plan.values() for job in jobs]
    settings.begin(sum(counts) // processes)
    barrier()
    for key, jobs in plan.items():
        recorders = {}
        for job in jobs:
            recorders |= predict(job, settings)
        if recorders and rank == 0:
            _add_scores(results, key, recorders, jobs[0].images, settings)
            _write(path, results, settings, runs[0].device)
            for part in (part for name in recorders for part in _parts(settings, name, key)):
                part.unlink()
        barrier()
    if rank == 0:
        derive(results, settings.out, settings.baselines)
        if json.dumps(results) != before:
            _write(path, results, settings, runs[0].device)
    barrier()
    return json.loads(path.read_text())


def make_jobs(suite: Suite, runs: Sequence[Run], results: dict, settings: Settings) -> list[Job]:
    """Check a suite's data and find who is still to be evaluated on it, grouped by what they are shown.

    Raises:
        ValueError: The data are not complete, or a run has a score on this suite that follows from something else.
    """
    jobs: dict[str, Job] = {}
    image_sets: dict[tuple, ImageSet] = {}
    for run in runs:
        classes = tuple(run.classes)
        if classes not in image_sets:
            limit, extra = settings.corruption_limit, settings.extra_corruptions
            image_sets[classes] = open_suite(suite, settings.data_root, classes, limit, extra)
        shown_alike = json.dumps([run.transform, run.fixed_size, classes])
        if shown_alike not in jobs:
            images = SuiteImages(image_sets[classes], run.transform, run.fixed_size, settings.seed, settings.definition)
            jobs[shown_alike] = Job(images, {}, {}, _subsets(suite, classes, settings))
        job = jobs[shown_alike]
        fingerprint = make_fingerprint(run, job.images)
        section = 'classification' if job.image_set.labelled else 'unlabelled'
        entry = results.get(section, {}).get(run.name, {}).get(suite.key)
        if entry is None:
            job.runs[run.name], job.fingerprints[run.name] = run, fingerprint
            continue
        differing = [key for key, value in fingerprint.items() if entry.get('fingerprint', {}).get(key) != value]
        if differing:
            raise _other(settings, f"{', '.join(differing)} for '{run.name}' on '{suite.key}'")
    return [job for job in jobs.values() if job.runs]


def _other(settings: Settings, what: str) -> ValueError:
    return ValueError(
        f"'{settings.out / RESULTS}' holds results of other {what}; choose another --out, name the run anew (NAME=…) "
        'or delete the file'
    )


def make_fingerprint(run: Run, images: SuiteImages) -> dict:
    """What a run's predictions on a suite follow from."""
    image_set = images.image_set
    fingerprint = {
        'weights': run.record['weights_sha256'],
        'data': image_set.sha256,
        'classes': class_fingerprint(run.classes),
        'cells': len(image_set.cells),
        'input_size': list(images.input_size),
        'transform': 'as stored' if images.as_stored else {k: v for k, v in run.transform.items() if k != 'input_size'},
        'normalisation': [list(run.mean), list(run.std)],
        'source': image_set.suite.corrupted,
    }
    if images.resized_from:
        fingerprint['resized_from'] = images.resized_from
    if image_set.suite.corrupted == ON_THE_FLY:
        fingerprint |= {'seed': images.seed, 'definition': images.definition, 'frost': frost_source()}
    return fingerprint


def predict(job: Job, settings: Settings) -> dict[str, Recorder]:
    """Show the images of a job to its runs; with several processes, this one's share.

    Returns:
        By run, what was predicted on all images in the first process.
    """
    rank, processes = rank_and_count()
    image_set, key = job.image_set, job.image_set.suite.key
    recorders = {name: Recorder(image_set, job.fingerprints[name], job.subsets) for name in job.runs}

    def load_parts() -> None:
        for name, recorder in recorders.items():
            for part in _parts(settings, name, key):
                recorder.load_part(part)

    def save_parts() -> None:
        for name, recorder in recorders.items():
            recorder.save_part(settings.out / 'predictions' / name / f'{key}.part{rank}.npz')

    load_parts()
    barrier()
    cells = len(image_set.cells)
    left = np.flatnonzero(~np.logical_and.reduce([recorder.done for recorder in recorders.values()]))
    settings.advance((len(job.images) - len(left)) * cells // processes)
    batches = load_batches(job.images, left[rank::processes], settings.batch_size, settings.workers)
    saved = time.monotonic()
    for shown, indices, modes in batches:
        portions = shown.flatten(0, 1).split(settings.batch_size)
        for name, run in job.runs.items():
            logits = torch.cat([run.predict(portion) for portion in portions])
            recorders[name].add(indices, modes, logits.view(*shown.shape[:2], -1))
        settings.advance(len(indices) * cells)
        if time.monotonic() - saved > settings.save_every_s:
            save_parts()
            saved = time.monotonic()
    if processes > 1:
        save_parts()
        barrier()
        load_parts()
    return recorders


def _parts(settings: Settings, run: str, key: str) -> list[Path]:
    """What processes have saved of a suite that is not finished."""
    return sorted((settings.out / 'predictions' / run).glob(f'{key}.part*.npz'))


def _subsets(suite: Suite, classes: Sequence[str], settings: Settings) -> dict[str, list[int]]:
    """On the clean images, the accuracy over the classes of suites that have some only is wanted too.

    ImageNet's lists are known; of other suites the folder tells the classes.
    """
    subsets = {}
    for other in suites_for(classes).values() if suite.key == 'clean' else ():
        if other.classes in ('a', 'r'):
            names = set(imagenet.synsets(other.classes))
            subsets[other.key] = [label for label, name in enumerate(classes) if name in names]
        elif other.subset and find_folder(other, settings.data_root) is not None:
            image_set = open_suite(other, settings.data_root, classes)
            subsets[other.key] = [label for label, _ in image_set.groups]
    return subsets


def _check_names(results: dict, runs: Sequence[Run], suites: Sequence[Suite], settings: Settings) -> None:
    keys = [suite.key for suite in suites]
    if len(set(keys)) < len(keys):
        raise ValueError(f'two suites are called the same ({", ".join(keys)}); rename a folder')
    names = [*results.get('runs', {}), *(run.name for run in runs)]
    for name in settings.baselines:
        if name not in names:
            raise ValueError(f"baseline '{name}' is no run; choose from {', '.join(dict.fromkeys(names))}")


def _add_runs(results: dict, runs: Sequence[Run], settings: Settings) -> None:
    for run in runs:
        known = results.setdefault('runs', {}).get(run.name, {})
        kept = ('weights_sha256', 'input_size', 'mean', 'std')
        differing = [key for key in kept if known and known[key] != run.record[key]]
        if differing:
            raise _other(settings, f"{', '.join(differing)} for '{run.name}'")
        checkpoint = run.record['checkpoint'] and os.path.relpath(run.record['checkpoint'], settings.out)
        results['runs'][run.name] = {**known, **run.record, 'checkpoint': checkpoint}
    results.setdefault('classification', {})


def _add_scores(
    results: dict, key: str, recorders: dict[str, Recorder], images: SuiteImages, settings: Settings
) -> None:
    image_set = images.image_set
    section = results.setdefault('classification' if image_set.labelled else 'unlabelled', {})
    for name, recorder in recorders.items():
        recorder.save(settings.out / 'predictions' / name / f'{key}.npz')
        section.setdefault(name, {})[key] = recorder.score()
        if subset_top1_pct := recorder.subset_top1_pct():
            results['runs'][name].setdefault('clean_subset_top1_pct', {}).update(subset_top1_pct)
    if image_set.labelled:
        samples = save_samples(images, recorders, settings.samples, settings.out)
        results['samples'] = merge_samples(results.get('samples', []), samples)
    folder = find_folder(image_set.suite, settings.data_root)
    data = {**results.get('provenance', {}).get('data', {})}
    data[key] = {'root': str(folder), 'images': len(image_set.paths), 'sha256': image_set.sha256}
    results['provenance'] = {'data': data}


def _write(path: Path, results: dict, settings: Settings, device: str) -> None:
    data = results.get('provenance', {}).get('data', {})
    results['provenance'] = {**provenance(settings, device), 'data': data}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + '\n')


def provenance(settings: Settings, device: str) -> dict:
    """Where numbers come from: command, time, seed, device and versions."""
    return {
        'command': ' '.join(['python', *sys.argv]),
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'seed': settings.seed,
        'device': device,
        'versions': {
            'python': platform.python_version(),
            'torch': torch.__version__,
            'timm': timm.__version__,
            'numpy': np.__version__,
        },
    }
