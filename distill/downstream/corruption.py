"""A detector or segmenter under corruption: its score on clean images and in every kind and severity.

Source: Michaelis et al., "Benchmarking Robustness in Object Detection: Autonomous Driving when Winter is Coming", 2019.
P is the score on clean images, mPC the mean over kinds and severities, rPC = mPC / P. For comparison: mmdet publishes
40.4 → 20.1 box mAP (rPC 49.7 %) for Cascade R-CNN with ResNet-50 on COCO val2017, with the images of imagecorruptions.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner

from backbones.checkpoint import read_weights, weights_sha256
from distill.base.files import write_json
from distill.downstream.corruption_report import write_report
from distill.downstream.scores import main_scores, task_scores
from distill.downstream.transforms import Corrupt
from distill.robustness.corruptions import KINDS, SEVERITIES, check_choices, frost_source
from distill.training.experiment import build_runner, check_weights

CLEAN = 'clean'


@dataclass(frozen=True)
class Cells:
    """What to measure besides the clean images.

    Attributes:
        kinds: Kinds of corruption.
        severities: Severities of each.
        seed: Seed of the corruptions.
        limit: Use this many images only, evenly chosen.

    Raises:
        ValueError: One of these is not as above.
    """

    kinds: tuple[str, ...] = KINDS
    severities: tuple[int, ...] = SEVERITIES
    seed: int = 0
    limit: int | None = None

    def __post_init__(self):
        for kind, severity in self:
            check_choices(kind, severity)
        if self.limit is not None and self.limit < 1:
            raise ValueError(f'--corruption-limit is {self.limit}; give a number of images of at least 1')

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return itertools.product(self.kinds, self.severities)


def insert_corrupt(pipeline: list, seed: int) -> list:
    """A test pipeline with a `Corrupt` after what loads the image; it leaves images as they are, until told otherwise.

    Raises:
        ValueError: Nothing in the pipeline loads an image.
    """
    for place, step in enumerate(pipeline):
        name = str(step['type']).rpartition('.')[2]
        if name.startswith('Load') and not name.endswith('Annotations'):
            corruption = dict(type='mmengine.Corrupt', kind=KINDS[0], severity=0, seed=seed)
            return [*pipeline[: place + 1], corruption, *pipeline[place + 1 :]]
    raise ValueError('the test pipeline has no step Load… that loads an image; --corruptions must know where it is')


def measure(config: Config, cells: Cells, out: Path) -> tuple[Runner, dict[str, float], dict]:
    """Test one checkpoint on clean images and in each cell; cells that the folder already has are not run again.

    Args:
        config: A detector's or segmenter's config, with ``load_from``.
        cells: What to measure.
        out: Folder for ``corruptions.json``, which has all scores of every cell and is written anew after each one;
            ``corruptions.md`` and ``corruptions.png`` show them.

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
        'weights_sha256': weights_sha256(read_weights(config.load_from)),
        'images': images,
        'seed': cells.seed,
        'settings_sha256': _settings_sha256(config),
    }
    runner = build_runner(config)
    check_weights(runner.model, config.load_from)
    limit_metrics(runner)
    transform = next(s for s in runner.test_loop.dataloader.dataset.pipeline.transforms if isinstance(s, Corrupt))
    path = out / 'corruptions.json'
    record = _read_record(path, identity)

    test: Callable[[], dict] = runner.test
    todo = [(CLEAN, 0), *cells]
    for number, (kind, severity) in enumerate(todo, 1):
        name = CLEAN if kind == CLEAN else f'{kind}_{severity}'
        if name in record['cells']:
            continue
        transform.choose(KINDS[0] if kind == CLEAN else kind, severity)
        scores = {key: float(value) for key, value in test().items()}
        test = runner.test_loop.run  # The weights are loaded only once.
        record['cells'][name] = scores
        if runner.rank == 0:
            write_json(path, record)
        found = task_scores(scores, config)
        shown = ', '.join(f'{key} {100 * found[key]:.1f}' for key in main_scores(config))
        runner.logger.info(f'corruptions {number}/{len(todo)}: {name.replace("_", " ")}: {shown}')

    entry = summarise(record['cells'], cells, config) | identity | provenance()
    if runner.rank == 0:
        write_report(entry, config, out)
    return runner, record['cells'][CLEAN], entry


def choose_images(config: Config, limit: int | None) -> int:
    """Cut the test set to some images, evenly chosen; returns how many there are."""
    settings = config.test_dataloader.dataset
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        dataset = DATASETS.build(settings)
    if limit is None or limit >= len(dataset):
        return len(dataset)
    settings.indices = np.linspace(0, len(dataset) - 1, limit).round().astype(int).tolist()
    return limit


def limit_metrics(runner: Runner) -> None:
    """Have COCO's metrics score the images of the test set only, not all of the annotation file."""
    dataset = runner.test_loop.dataloader.dataset
    for metric in runner.test_loop.evaluator.metrics:
        if hasattr(metric, 'img_ids'):
            metric.img_ids = [dataset.get_data_info(index)['img_id'] for index in range(len(dataset))]


def summarise(scores: dict[str, dict], cells: Cells, config: Config) -> dict:
    """P, mPC and rPC of each of a task's scores.

    Args:
        scores: Cell → what `Runner.test` returned.
        cells: The cells to sum up.
        config: The config.

    Returns:
        Score → ``P``, ``mPC`` (fractions), ``rPC_pct`` (None if P is 0) and ``cells`` (kind → one score a severity);
        and what was measured.
    """
    entry = {'kinds': list(cells.kinds), 'severities': list(cells.severities)}
    for name in main_scores(config):
        by_kind = {
            kind: [task_scores(scores[f'{kind}_{severity}'], config)[name] for severity in cells.severities]
            for kind in cells.kinds
        }
        clean = task_scores(scores[CLEAN], config)[name]
        mean = float(np.mean(list(by_kind.values())))
        entry[name] = {'P': clean, 'mPC': mean, 'rPC_pct': 100 * mean / clean if clean > 0 else None, 'cells': by_kind}
    return entry


def provenance() -> dict:
    """How the images were made, and with what."""
    versions = {'torch': torch.__version__, 'timm': timm.__version__, 'numpy': np.__version__}
    return {'source': 'on-the-fly', 'frost': frost_source(), 'versions': versions}


def _read_record(path: Path, identity: dict) -> dict:
    """What ``corruptions.json`` has, the same for all processes.

    Raises:
        ValueError: It is of another test.
    """
    shared = [json.loads(path.read_text()) if path.is_file() else None]
    broadcast_object_list(shared)
    record = shared[0] or {**identity, 'cells': {}}
    for key, value in identity.items():
        if record[key] != value:
            raise ValueError(
                f"'{path}' holds results of another test ({key} is {record[key]} there and {value} here); "
                'choose another --work-dir or --out, or delete the file'
            )
    return record


def _settings_sha256(config: Config) -> str:
    """A hash of what a score depends on besides weights: model, data and evaluator."""
    loader = {'dataset': config.test_dataloader.dataset}
    settings = [config.model, loader, config.test_evaluator]
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
