"""Evaluate several models side by side on the suites, and keep every prediction."""

import io
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from backbones.checkpoint import atomic_write
from distill.data import check_class_folders, decode
from distill.robustness import metrics
from distill.robustness.corruptions import KINDS, SEVERITIES, corrupt, frost_source
from distill.robustness.runs import Run
from distill.robustness.suites import Suite, class_indices

SCHEMA_VERSION = 1
CELLS = [(kind, severity) for kind in KINDS for severity in SEVERITIES]
TOP = 5


@dataclass
class Settings:
    """How an evaluation is run.

    Attributes:
        data_root: Folder with the suites' folders.
        out: Folder that ``results.json``, predictions and samples go to.
        batch_size: Images a forward pass.
        workers: Processes that decode.
        seed: Seed of the corruptions.
        corruption_limit: Images that are corrupted, spread evenly over the classes; None takes all.
        samples: Images a suite that are saved for the report.
        advance: Called with the number of predicted images after each batch.
    """

    data_root: str
    out: Path
    batch_size: int = 100
    workers: int = 1
    seed: int = 0
    corruption_limit: int | None = None
    samples: int = 6
    advance: Callable[[int], None] = field(default=lambda count: None)


class SuiteImages(Dataset):
    """A suite's images, decoded, resized and cropped.

    Args:
        folder: Folder with class folders.
        classes: The models' classes, in order.
        transform: Arguments of timm's evaluation transform.
        limit: How many images to take, spread evenly; None takes all.
    """

    def __init__(self, folder: Path, classes: Sequence[str], transform: dict, limit: int | None = None):
        self.items = [
            (path, classes.index(name))
            for name in check_class_folders(folder)
            for path in sorted(p for p in (folder / name).rglob('*') if p.is_file())
        ]
        if limit is not None and limit < len(self.items):
            self.items = [self.items[i] for i in np.linspace(0, len(self.items) - 1, limit).round().astype(int)]
        self.transform = create_transform(**transform, use_prefetcher=True)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image in uint8 [3, H, W], and its index."""
        path = self.items[index][0]
        return self.transform(decode(path.open('rb'), lambda: path)), index


class SuiteRecorder:
    """What one run predicted on one suite.

    Args:
        cells: How often each image is shown: once, or once a corruption and severity.
        images: Number of images.
        allowed: Classes of the suite, as indices among the model's.
        labels: Index of each image's class [N].
        subsets: Classes of the suites that have some only; the accuracy over each is wanted too.
    """

    def __init__(self, cells: int, images: int, allowed: list[int], labels: np.ndarray, subsets: dict[str, list[int]]):
        self.predicted = np.full((cells, images, min(TOP, len(allowed))), -1, np.int16)
        self.confidence = np.zeros((cells, images), np.float32)
        self.allowed = torch.tensor(allowed)
        self.labels = labels
        self.subsets = {name: torch.tensor(classes) for name, classes in subsets.items()}
        self.subset_hits = {name: [] for name in subsets}

    def add(self, cell: int, indices: np.ndarray, logits: Tensor) -> None:
        """Record a batch of logits [B, K] of the images with these indices."""
        top = logits[:, self.allowed].softmax(dim=1).topk(self.predicted.shape[2], dim=1)
        self.predicted[cell, indices] = self.allowed[top.indices].numpy()
        self.confidence[cell, indices] = top.values[:, 0].numpy()
        for name, classes in self.subsets.items():
            labels = torch.from_numpy(self.labels[indices])
            among = torch.isin(labels, classes)
            decision = classes[logits[:, classes].argmax(dim=1)]
            self.subset_hits[name].append((decision == labels)[among].numpy())

    def score(self, suite: Suite, classes: Sequence[str], paths: list[str]) -> dict:
        """The entry under ``classification.<run>.<suite>``."""
        hits = self.predicted[:, :, 0] == self.labels
        entry = {
            'top1_pct': metrics.accuracy_pct(hits),
            'top5_pct': metrics.accuracy_pct((self.predicted == self.labels[None, :, None]).any(axis=2)),
            'images': len(self.labels),
            'classes': len(self.allowed),
        }
        if suite.corrupted:
            by_cell = hits.mean(axis=1).reshape(len(KINDS), len(SEVERITIES)) * 100
            entry['cells'] = dict(zip(KINDS, by_cell.tolist(), strict=True))
            entry['mean_error_pct'] = metrics.mean_error_pct(entry['cells'])
            entry['source'] = 'on-the-fly'
            entry['frost'] = frost_source()
        if suite.cue_conflict:
            textures = np.array([classes.index(metrics.texture_class(path)) for path in paths])
            entry['shape_bias_pct'] = metrics.shape_bias_pct(self.predicted[0, :, 0], self.labels, textures)
        return entry


class Sampler:
    """Images of a suite that are saved, with what each run said of them.

    Args:
        suite: The suite.
        images: Number of images of the suite.
        count: How many to save, spread evenly; corrupted ones also go through the kinds.
        out: Folder of ``results.json``.
    """

    def __init__(self, suite: Suite, images: int, count: int, out: Path):
        self.suite, self.out = suite, out
        chosen = np.linspace(0, images - 1, min(count, images)).round().astype(int).tolist()
        cell_of = [n * len(KINDS) // len(chosen) * len(SEVERITIES) + 2 if suite.corrupted else 0 for n in range(count)]
        self.cell_of = dict(zip(chosen, cell_of, strict=False))
        self.records: dict[int, dict] = {}

    def add(self, cell: int, indices: np.ndarray, images: Tensor) -> None:
        """Save those images [B, 3, H, W] of a batch that were chosen."""
        for image, index in zip(images, indices.tolist(), strict=True):
            if self.cell_of.get(index) != cell:
                continue
            name = f'samples/{self.suite.name}_{list(self.cell_of).index(index)}.png'
            (self.out / 'samples').mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(self.out / name)
            self.records[index] = {'suite': self.suite.name, 'image': name}
            if self.suite.corrupted:
                kind, severity = CELLS[cell]
                self.records[index]['note'] = f'{kind.replace("_", " ")}, severity {severity}'

    def finish(self, recorders: dict[str, SuiteRecorder], classes: Sequence[str], paths: list[str]) -> list[dict]:
        """The entries under ``samples``."""
        for index, record in self.records.items():
            cell = self.cell_of[index]
            if self.suite.cue_conflict:
                record['texture'] = metrics.texture_class(paths[index])
            record['target'] = classes[next(iter(recorders.values())).labels[index]]
            record['predictions'] = {
                name: {
                    'label': classes[recorder.predicted[cell, index, 0]],
                    'confidence': float(recorder.confidence[cell, index]),
                }
                for name, recorder in recorders.items()
            }
        return [self.records[index] for index in sorted(self.records)]


def evaluate_suite(
    suite: Suite, runs: list[Run], classes: Sequence[str], settings: Settings, subsets: Sequence[Suite] = ()
) -> tuple[dict[str, dict], list[dict], dict[str, dict[str, float]]]:
    """Evaluate runs on one suite, decoding each image once for all runs and all corruptions.

    Args:
        suite: The suite.
        runs: Models with the same classes and the same transform.
        classes: Their classes.
        settings: How to run.
        subsets: Suites with some of the classes, over which accuracy is wanted as well.

    Returns:
        Each run's entry under ``classification.<run>.<suite>``; entries under ``samples``; and by run and subset
        suite the accuracy over its classes in percent.
    """
    root = Path(settings.data_root)
    limit = settings.corruption_limit if suite.corrupted else None
    dataset = SuiteImages(root / suite.folder, classes, runs[0].transform, limit)
    labels = np.array([label for _, label in dataset.items])
    paths = [path.relative_to(root).as_posix() for path, _ in dataset.items]
    allowed = class_indices(suite, settings.data_root, classes)
    within = {s.name: class_indices(s, settings.data_root, classes) for s in subsets}
    cells = CELLS if suite.corrupted else [None]
    recorders = {run.name: SuiteRecorder(len(cells), len(labels), allowed, labels, within) for run in runs}
    sampler = Sampler(suite, len(labels), settings.samples, settings.out)

    loader = DataLoader(dataset, settings.batch_size, num_workers=settings.workers)
    for clean, indices in loader:
        indices = indices.numpy()
        for cell, images in enumerate(_each_cell(clean, indices, cells, settings.seed)):
            for run in runs:
                recorders[run.name].add(cell, indices, run.predict(images))
            sampler.add(cell, indices, images)
        settings.advance(len(indices) * len(cells))

    for name, recorder in recorders.items():
        arrays = dict(paths=paths, labels=labels, classes=list(classes))
        arrays.update(predicted=recorder.predicted, confidence=recorder.confidence)
        with atomic_write(settings.out / 'predictions' / name / f'{suite.name}.npz') as temporary:
            temporary.write_bytes(_npz(arrays))
    entries = {name: recorder.score(suite, classes, paths) for name, recorder in recorders.items()}
    over_subsets = {
        name: {s: metrics.accuracy_pct(np.concatenate(hits)) for s, hits in recorder.subset_hits.items()}
        for name, recorder in recorders.items()
    }
    return entries, sampler.finish(recorders, classes, paths), over_subsets


def _npz(arrays: dict) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _each_cell(images: Tensor, indices: np.ndarray, cells: list, seed: int) -> Iterator[Tensor]:
    for cell in cells:
        yield images if cell is None else corrupt(images, *cell, [(seed, i) for i in indices.tolist()])


def evaluate(runs: list[Run], suites: list[Suite], settings: Settings) -> dict:
    """Evaluate all runs on all suites and write ``results.json``, anew after each suite.

    Suites that the file already has for all runs, with the same weights, are not run again.

    Args:
        runs: Models; those with the same transform share the decoded images.
        suites: Suites, ``clean`` first.
        settings: How to run.

    Returns:
        The contents of ``results.json``.

    Raises:
        ValueError: The file holds results of the same name and other weights, or classes do not fit.
    """
    path = settings.out / 'results.json'
    results = json.loads(path.read_text()) if path.is_file() else {'schema_version': SCHEMA_VERSION}
    for run in runs:
        before = results.setdefault('runs', {}).get(run.name)
        if before is not None and before['weights_sha256'] != run.record['weights_sha256']:
            raise ValueError(
                f"'{path}' holds results of other weights for '{run.name}'; choose another --out or delete the file"
            )
        checkpoint = run.record['checkpoint'] and os.path.relpath(run.record['checkpoint'], settings.out)
        results['runs'][run.name] = {**run.record, 'checkpoint': checkpoint}
    results['provenance'] = provenance(settings)
    scores = results.setdefault('classification', {})
    for suite in suites:
        for run in runs:
            class_indices(suite, settings.data_root, _classes(run, settings))
    subsets = [suite for suite in suites if suite.subset]

    for suite in suites:
        if all(suite.name in scores.get(run.name, {}) for run in runs):
            continue
        kept = [sample for sample in results.get('samples', []) if sample['suite'] != suite.name]
        for group in _same_transform(runs):
            classes = _classes(group[0], settings)
            entries, samples, over_subsets = evaluate_suite(
                suite, group, classes, settings, subsets if suite.name == 'clean' else ()
            )
            for name, entry in entries.items():
                scores.setdefault(name, {})[suite.name] = entry
                for subset, top1_pct in over_subsets[name].items():
                    results['runs'][name].setdefault('clean_subset_top1_pct', {})[subset] = top1_pct
                if suite.subset and 'clean_subset_top1_pct' in results['runs'][name]:
                    entry['clean_subset_top1_pct'] = results['runs'][name]['clean_subset_top1_pct'][suite.name]
            kept = _merge_samples(kept, samples)
        results['samples'] = kept
        images = next(iter(scores.values()))[suite.name]['images']
        data = results['provenance'].setdefault('data', {})
        data[suite.name] = {'root': str(Path(settings.data_root) / suite.folder), 'images': images}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + '\n')
    return results


def _classes(run: Run, settings: Settings) -> list[str]:
    """A run's classes; those of the clean set where its checkpoint does not tell."""
    return run.classes or check_class_folders(Path(settings.data_root) / 'val')


def _same_transform(runs: list[Run]) -> list[list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps([run.transform, run.classes]), []).append(run)
    return list(groups.values())


def _merge_samples(samples: list[dict], more: list[dict]) -> list[dict]:
    """Put predictions for the same saved image together."""
    by_image = {sample['image']: sample for sample in samples}
    for sample in more:
        known = by_image.setdefault(sample['image'], sample)
        known['predictions'].update(sample['predictions'])
    return list(by_image.values())


def provenance(settings: Settings) -> dict:
    """Where numbers come from: command, time, seed and versions."""
    return {
        'command': ' '.join(['python', *sys.argv]),
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'seed': settings.seed,
        'device': 'cuda' if torch.cuda.is_available() else 'cpu',
        'versions': {
            'python': platform.python_version(),
            'torch': torch.__version__,
            'timm': timm.__version__,
            'numpy': np.__version__,
        },
    }
