"""Who is shown what: the runs that have no score on a suite yet, grouped by the images that they are shown."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from distill.base.records import CORRUPTED_ON
from distill.corruptions import DEFINITIONS, frost_source
from distill.results.entries import Fingerprint, Results
from distill.results.schema import FILE_NAME
from distill.robustness.compare import class_fingerprint
from distill.robustness.images import SuiteImages
from distill.robustness.runs import Run
from distill.robustness.suite_table import ON_THE_FLY, Suite, find_folder
from distill.robustness.suites import ImageSet, open_suite, suites_for


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
        corrupt_on: Of `CORRUPTED_ON`: on the CPU, or where the models run.
        baselines: Runs through which the line of effective robustness goes.
        samples: Images a suite that are saved for the report.
        save_every_s: Seconds between saves of the predictions: what a stop loses at most.
        share: Number of this process, from 0, and how many there are, of processes that predict a share of the images
            each and leave the scores to an evaluation after them; None predicts all and scores it.
        command: What the results name as their origin; None for the command line of this process.
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
    corrupt_on: str = CORRUPTED_ON[0]
    baselines: Sequence[str] = ()
    samples: int = 6
    save_every_s: float = 30
    share: tuple[int, int] | None = None
    command: str | None = None
    begin: Callable[[int], None] = field(default=lambda count: None)
    advance: Callable[[int], None] = field(default=lambda count: None)

    @property
    def results(self) -> Path:
        """The file of the scores."""
        return self.out / FILE_NAME

    def predictions(self, run: str) -> Path:
        """The folder of a run's predictions."""
        return self.out / 'predictions' / run


@dataclass
class Job:
    """Runs that are shown the same images of a suite and have no score on it yet.

    Attributes:
        images: The images as the runs see them.
        runs: By name.
        fingerprints: What the predictions of each run follow from.
        subsets: By suite, columns of the logits over which the top-1 is wanted too.
    """

    images: SuiteImages
    runs: dict[str, Run]
    fingerprints: dict[str, Fingerprint]
    subsets: dict[str, list[int]]

    @property
    def image_set(self) -> ImageSet:
        """The images as they lie on disk."""
        return self.images.image_set

    @property
    def predictions(self) -> int:
        """How many predictions a run makes."""
        return len(self.images) * len(self.image_set.cells)


def make_jobs(suite: Suite, runs: Sequence[Run], results: Results, settings: Settings) -> list[Job]:
    """Check a suite's data, find the runs that have no score on the suite, and group them by what they are shown.

    Raises:
        ValueError: The data are not complete, or a run has a score on this suite that follows from something else.
    """
    jobs: dict[str, Job] = {}
    image_sets: dict[tuple, ImageSet] = {}
    for run in runs:
        classes = tuple(run.classes or ())
        if classes not in image_sets:
            limit, extra = settings.corruption_limit, settings.extra_corruptions
            image_sets[classes] = open_suite(suite, settings.data_root, classes, limit, extra)
        shown_alike = json.dumps([run.transform, run.fixed_size, classes])
        if shown_alike not in jobs:
            how = settings.seed, settings.definition, settings.corrupt_on
            images = SuiteImages(image_sets[classes], run.transform, run.fixed_size, *how)
            jobs[shown_alike] = Job(images, {}, {}, _subsets(suite, classes, settings))
        job = jobs[shown_alike]
        fingerprint = make_fingerprint(run, job.images)
        labelled = job.image_set.labelled
        scores: Mapping = results.get('classification', {}) if labelled else results.get('unlabelled', {})
        entry = scores.get(run.name, {}).get(suite.key)
        if entry is None:
            job.runs[run.name], job.fingerprints[run.name] = run, fingerprint
            continue
        before: Mapping = entry.get('fingerprint', {})
        differing = sorted(key for key in {*fingerprint, *before} if fingerprint.get(key) != before.get(key))
        if differing:
            raise other_results(settings, f"{', '.join(differing)} for '{run.name}' on '{suite.key}'")
    return [job for job in jobs.values() if job.runs]


def other_results(settings: Settings, what: str) -> ValueError:
    """The error that the file has results of something else, which are not to be replaced."""
    return ValueError(
        f"'{settings.results}' holds results of other {what}; choose another --out, name the run anew (NAME=…) "
        'or delete the file'
    )


def make_fingerprint(run: Run, images: SuiteImages) -> Fingerprint:
    """Note all that a run's predictions on a suite follow from."""
    image_set = images.image_set
    fingerprint: Fingerprint = {
        'weights': run.record['weights_sha256'],
        'data': image_set.sha256,
        'classes': class_fingerprint(run.classes or ()),
        'cells': len(image_set.cells),
        'input_size': list(images.input_size),
        'transform': 'as stored' if images.as_stored else {k: v for k, v in run.transform.items() if k != 'input_size'},
        'normalisation': [list(run.mean), list(run.std)],
        'source': image_set.suite.corrupted,
    }
    if 'probe' in run.record:
        fingerprint['probe'] = run.record['probe']
    if images.resized_from:
        fingerprint['resized_from'] = images.resized_from
    if image_set.suite.corrupted == ON_THE_FLY:
        fingerprint |= {'seed': images.seed, 'definition': images.definition, 'frost': frost_source()}
        if images.draws_only:
            fingerprint['corrupted_on'] = torch.device(run.device).type
    return fingerprint


def _subsets(suite: Suite, classes: Sequence[str], settings: Settings) -> dict[str, list[int]]:
    """Find the suites of fewer classes; on the clean images, the accuracy over their classes is wanted too.

    The classes of ImageNet's suites are listed; of other suites the folder tells the classes.

    Returns:
        Columns of the logits by suite; none but for the clean images.
    """
    subsets = {}
    for other in suites_for(classes).values() if suite.key == 'clean' else ():
        if other.classes.wnids is not None:
            subsets[other.key] = [label for label, name in enumerate(classes) if name in other.classes.wnids]
        elif other.subset and find_folder(other, settings.data_root) is not None:
            image_set = open_suite(other, settings.data_root, classes)
            subsets[other.key] = [label for label, _ in image_set.groups]
    return subsets
