"""A detector or segmenter under corruption: its scores on clean images and in each cell.

Source: Michaelis et al., "Benchmarking Robustness in Object Detection: Autonomous Driving when Winter is Coming", 2019.
P is the score on clean images, mPC the mean over kinds and severities, rPC = mPC / P. For comparison: mmdet publishes
40.4 → 20.1 box mAP (rPC 49.7 %) for Cascade R-CNN with ResNet-50 on COCO val2017, with the images of imagecorruptions.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dist import broadcast_object_list
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner

from distill.base.files import read_json, write_json
from distill.base.records import KINDS, SEVERITIES, Cell, cells_of
from distill.corruptions import frost_source
from distill.downstream.artefact import build_tested, tested_sha256
from distill.downstream.corruption_report import write_report
from distill.downstream.per_image import KeepPerImage
from distill.downstream.scores import main_scores, task_scores
from distill.downstream.seen import seen_in_training
from distill.downstream.transforms import Corrupt
from distill.results.cells import cells_to_json
from distill.results.per_image import CLEAN, cell_key, per_image_file
from distill.results.provenance import library_versions
from distill.robustness.suite_table import ON_THE_FLY
from distill.training.runner import named_data


@dataclass(frozen=True)
class Cells:
    """The cells to measure besides the clean images, and on which images.

    Attributes:
        kinds: Kinds of corruption.
        severities: Severities of each kind.
        seed: Seed of the corruptions.
        limit: Use this many images only, evenly chosen; None uses all.

    Raises:
        ValueError: A kind or severity is unknown, or the limit is below 1.
    """

    kinds: tuple[str, ...] = KINDS
    severities: tuple[int, ...] = SEVERITIES
    seed: int = 0
    limit: int | None = None

    def __post_init__(self):
        list(self)  # A cell checks its kind and its severity.
        if self.limit is not None and self.limit < 1:
            raise ValueError(f'--corruption-limit is {self.limit}; give a number of images of at least 1')

    def __iter__(self) -> Iterator[Cell]:
        return iter(cells_of(self.kinds, self.severities))


def insert_corrupt(pipeline: list, seed: int) -> list:
    """Insert a `Corrupt`, which leaves images as they are at first, after the step of a pipeline that loads the image.

    Raises:
        ValueError: No step of the pipeline loads an image.
    """
    for place, step in enumerate(pipeline):
        name = str(step['type']).rpartition('.')[2]
        if name.startswith('Load') and not name.endswith('Annotations'):
            corruption = dict(type='mmengine.Corrupt', kind=KINDS[0], severity=0, seed=seed)
            return [*pipeline[: place + 1], corruption, *pipeline[place + 1 :]]
    raise ValueError('the test pipeline has no step Load… that loads an image; --corruptions must know where it is')


def measure(
    config: Config, cells: Cells, out: Path, notes: Sequence[str] = (), per_image: bool = False
) -> tuple[Runner, dict[str, float], dict]:
    """Test one checkpoint on clean images and in each cell; cells that the folder already has are not run again.

    Args:
        config: A detector's or segmenter's config, with ``load_from``.
        cells: What to measure.
        out: Folder for ``corruptions.json``, which is written anew after each cell, and for ``corruptions.md`` and
            ``corruptions.png``, which show it.
        notes: Lines for the log.
        per_image: Also keep what was found on each image, see `distill.downstream.per_image`.

    Returns:
        The runner, its scores on clean images as `Runner.test` returns them, and the entry ``corruption`` of
        ``results.json``.

    Raises:
        ValueError: The folder holds results of other weights, another config, seed or number of images.
    """
    dataset = config.test_dataloader.dataset
    dataset.pipeline = insert_corrupt(dataset.pipeline, cells.seed)
    # New workers in each cell see what was changed in the transform.
    config.test_dataloader.persistent_workers = False
    images = choose_images(config, cells.limit)
    identity = {
        'weights_sha256': tested_sha256(config.load_from),
        'images': images,
        'seed': cells.seed,
        'settings_sha256': _settings_sha256(config),
    }
    runner = build_tested(config, notes=notes)
    limit_metrics(runner)
    transform = next(s for s in runner.test_loop.dataloader.dataset.pipeline.transforms if isinstance(s, Corrupt))
    path = out / 'corruptions.json'
    measured = Measured.read(path, identity)
    keep = KeepPerImage(runner) if per_image else None

    test: Callable[[], dict] = runner.test
    todo: list[Cell | None] = [None, *cells]
    for number, cell in enumerate(todo, 1):
        if cell in measured.scores and not (keep and not per_image_file(out, cell).is_file()):
            continue
        transform.cell = cell
        if keep:
            keep.path = per_image_file(out, cell)
        scores = {key: float(value) for key, value in test().items()}
        test = runner.test_loop.run  # The weights are loaded only once.
        measured.scores[cell] = scores
        if runner.rank == 0:
            measured.write(path)
        found = task_scores(scores, config)
        shown = ', '.join(f'{key} {100 * found[key]:.1f}' for key in main_scores(config))
        runner.logger.info(f'corruptions {number}/{len(todo)}: {cell.label if cell else CLEAN}: {shown}')

    made = {'source': ON_THE_FLY, 'frost': frost_source(), 'versions': library_versions()}
    seen = seen_in_training(config.load_from)
    entry = summarise(measured.scores, cells, config, seen) | identity | made
    if runner.rank == 0:
        write_report(entry, config, out)
    return runner, measured.scores[None], entry


@dataclass
class Measured:
    """What ``corruptions.json`` holds: the scores of one test on clean images and in the cells that were run so far.

    Attributes:
        identity: What the scores follow from: hashes of weights and settings, number of images, seed.
        scores: What `Runner.test` returned, by cell; None stands for the clean images.
    """

    identity: dict
    scores: dict[Cell | None, dict[str, float]]

    @classmethod
    def read(cls, path: Path, identity: dict) -> 'Measured':
        """Read the file in the first process of a run, for all of them; where there is none, nothing was measured.

        Raises:
            ValueError: The file is damaged, or of another test.
        """
        content = [read_json(path, 'delete it') if path.is_file() else {**identity, 'cells': {}}]
        broadcast_object_list(content)
        for key, value in identity.items():
            if (found := content[0].get(key)) != value:
                raise ValueError(
                    f"'{path}' holds results of another test ({key} is {found} there and {value} here); "
                    'choose another --work-dir or --out, or delete the file'
                )
        scores = content[0]['cells'].items()
        return cls(identity, {None if key == CLEAN else Cell.parse(key): found for key, found in scores})

    def write(self, path: Path) -> None:
        """Write the file; a cell's key is ``fog_3``."""
        cells = {cell_key(cell): found for cell, found in self.scores.items()}
        write_json(path, {**self.identity, 'cells': cells})


def choose_images(config: Config, limit: int | None) -> int:
    """Cut the test set to as many images as ``limit``, evenly chosen, and return how many there are then."""
    settings = config.test_dataloader.dataset
    with DefaultScope.overwrite_default_scope(config.get('default_scope')), named_data(settings):
        dataset = DATASETS.build(settings)
    if limit is None or limit >= len(dataset):
        return len(dataset)
    settings.indices = np.linspace(0, len(dataset) - 1, limit).round().astype(int).tolist()
    return limit


def limit_metrics(runner: Runner) -> None:
    """Let COCO's metrics score the images of the cut test set only, not all of the annotation file."""
    dataset = runner.test_loop.dataloader.dataset
    for metric in runner.test_loop.evaluator.metrics:
        if hasattr(metric, 'img_ids'):
            metric.img_ids = [dataset.get_data_info(index)['img_id'] for index in range(len(dataset))]


def summarise(
    scores: Mapping[Cell | None, dict[str, float]], cells: Cells, config: Config, seen: Sequence[str] = ()
) -> dict:
    """Compute P, mPC and rPC of each of a task's scores.

    Args:
        scores: What `Runner.test` returned, by cell; None stands for the clean images.
        cells: The cells to sum up.
        config: The config.
        seen: Corruptions that the network saw in training.

    Returns:
        Score → ``P``, ``mPC`` (fractions), ``rPC_pct`` (None if P is 0) and ``cells`` (kind → one score a severity);
        and what was measured. Where kinds among them were seen in training: ``seen_kinds``, and for each score
        ``mPC_unseen``, the mean over the others, unless there are none.
    """
    entry: dict = {'kinds': list(cells.kinds), 'severities': list(dict.fromkeys(cells.severities))}
    for name in main_scores(config):
        by_kind = cells_to_json({cell: task_scores(scores[cell], config)[name] for cell in cells})
        clean = task_scores(scores[None], config)[name]
        mean = float(np.mean(list(by_kind.values())))
        entry[name] = {'P': clean, 'mPC': mean, 'rPC_pct': 100 * mean / clean if clean > 0 else None, 'cells': by_kind}
        unseen = [values for kind, values in by_kind.items() if kind not in seen]
        if 0 < len(unseen) < len(by_kind):
            entry[name]['mPC_unseen'] = float(np.mean(unseen))
    if trained_on := [kind for kind in cells.kinds if kind in seen]:
        entry['seen_kinds'] = trained_on
    return entry


def _settings_sha256(config: Config) -> str:
    """Hash what a score depends on besides weights: model, data and evaluator.

    A step that only checks the samples changes no score, and `LoadWholeImage` is another name of one that loads them;
    work directories of versions that had none of the former, or the latter, in their pipelines go on.
    """
    dataset = config.test_dataloader.dataset
    pipeline = [former_loader(step) for step in dataset.pipeline if not str(step['type']).endswith('CheckSample')]
    loader = {'dataset': {**dataset, 'pipeline': pipeline}}
    settings = [config.model, loader, config.test_evaluator]
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def former_loader(step: dict) -> dict:
    """A pipeline's step under its former name, if it had one."""
    if step['type'] != 'LoadImageFromFile' or step.get('imdecode_backend') != 'pillow':
        return step
    return {key: value for key, value in step.items() if key != 'imdecode_backend'} | {'type': 'LoadWholeImage'}
