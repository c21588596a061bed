"""What a run predicted on a suite: kept for each image, saved while it grows, and scored."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.base.files import write_npz
from distill.base.images import MODES, PROBLEMS
from distill.robustness import metrics
from distill.robustness.corruptions import EXTRA_KINDS, KINDS, SEVERITIES
from distill.robustness.suites import ON_THE_FLY, ImageSet

TOP = 5
NO_DECISION = -1


class Recorder:
    """What one run predicted on one suite.

    Args:
        image_set: The suite's images.
        fingerprint: What the predictions follow from; predictions of others are not mixed in.
        subsets: By suite, columns of the logits; top-1 over the images of these classes is wanted too, logits cut.

    Attributes:
        predicted: The five classes with the largest probability [cells, images, 5]; -1 where logits were not finite.
        confidence: The largest probability [cells, images].
        done: Which images have been seen [images].
    """

    def __init__(self, image_set: ImageSet, fingerprint: Mapping, subsets: Mapping[str, Sequence[int]] | None = None):
        cells, images, decisions = len(image_set.cells), len(image_set.paths), len(image_set.groups)
        self.image_set, self.fingerprint = image_set, dict(fingerprint)
        self.subsets = {name: torch.tensor(columns) for name, columns in (subsets or {}).items()}
        self.predicted = np.full((cells, images, min(TOP, decisions)), NO_DECISION, np.int16)
        self.confidence = np.zeros((cells, images), np.float32)
        self.modes = np.zeros(images, np.int8)
        self.subset_hits = np.full((len(self.subsets), images), -1, np.int8)
        self.done = np.zeros(images, bool)
        self.decisions = torch.tensor([k for k, _ in image_set.groups])
        self.columns = [columns for _, columns in image_set.groups]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probability of each decision [B, decisions] from logits [B, K]."""
        if all(len(columns) == 1 for columns in self.columns):
            return logits[:, [columns[0] for columns in self.columns]].softmax(dim=1)
        probabilities = logits.softmax(dim=1)
        return torch.stack([probabilities[:, columns].mean(dim=1) for columns in self.columns], dim=1)

    def add(self, indices: np.ndarray, modes: np.ndarray, logits: Tensor) -> None:
        """Record logits [B, cells, K] of the images with these indices, stored in these modes."""
        batch, cells = logits.shape[:2]
        probabilities = self.probabilities(logits.flatten(0, 1))
        finite = probabilities.isfinite().all(dim=1, keepdim=True)
        top = probabilities.nan_to_num().topk(self.predicted.shape[2], dim=1)
        predicted = self.decisions[top.indices].where(finite, NO_DECISION).view(batch, cells, -1)
        confidence = top.values[:, 0].where(finite[:, 0], 0).view(batch, cells)
        self.predicted[:, indices] = predicted.transpose(0, 1).numpy()
        self.confidence[:, indices] = confidence.T.numpy()
        labels = torch.from_numpy(self.image_set.labels[indices])
        for row, columns in enumerate(self.subsets.values()):
            cut = logits[:, 0, columns]
            hits = (columns[cut.argmax(dim=1)] == labels) & cut.isfinite().all(dim=1)
            self.subset_hits[row, indices] = torch.where(torch.isin(labels, columns), hits.to(torch.int8), -1).numpy()
        self.modes[indices] = modes
        self.done[indices] = True

    def save_part(self, path: Path) -> None:
        """Write what has been recorded so far."""
        arrays = {name: getattr(self, name)[..., self.done] for name in ('modes', 'subset_hits', 'confidence')}
        arrays |= {'predicted': self.predicted[:, self.done], 'indices': np.flatnonzero(self.done)}
        write_npz(path, arrays | {'follows_from': self._follows_from()}, compress=False)

    def load_part(self, path: Path) -> None:
        """Take over what `save_part` wrote, unless it follows from something else."""
        with np.load(path) as part:
            if str(part['follows_from']) != self._follows_from():
                return
            indices = part['indices']
            self.predicted[:, indices], self.confidence[:, indices] = part['predicted'], part['confidence']
            self.subset_hits[:, indices], self.modes[indices] = part['subset_hits'], part['modes']
            self.done[indices] = True

    def _follows_from(self) -> str:
        subsets = {name: columns.tolist() for name, columns in self.subsets.items()}
        return json.dumps([self.fingerprint, subsets], sort_keys=True)

    def save(self, path: Path) -> None:
        """Write all predictions for statistics that need no second run."""
        cells = ['' if cell is None else f'{cell[0]} {cell[1]}' for cell in self.image_set.cells]
        arrays = dict(paths=self.image_set.paths, labels=self.image_set.labels, classes=self.image_set.classes)
        write_npz(path, arrays | dict(cells=cells, predicted=self.predicted, confidence=self.confidence))

    @property
    def hits(self) -> np.ndarray:
        """Whether the decision was right [cells, images]."""
        return self.predicted[:, :, 0] == self.image_set.labels

    def problems(self) -> dict[str, int]:
        """How often what happened that a reader of the score should know."""
        counts = {
            PROBLEMS.get(mode, f'{mode.lower()}_images'): int((self.modes == k).sum())
            for k, mode in enumerate(MODES)
            if mode != 'RGB'
        }
        counts['nan_logits'] = int((self.predicted[:, :, 0] == NO_DECISION).sum())
        return {name: count for name, count in counts.items() if count}

    def score(self) -> dict:
        """The entry under ``classification.<run>.<suite>``; without accuracies where there are no labels."""
        image_set = self.image_set
        images, suite = len(image_set.paths), image_set.suite
        entry = {'images': images, 'classes': len(image_set.groups), **self.fingerprint_entry()}
        if problems := self.problems():
            entry['problems'] = problems
        if not image_set.labelled:
            return entry
        # The extra kinds are no part of the benchmark.
        main = [k for k, cell in enumerate(image_set.cells) if cell is None or cell[0] in KINDS]
        hits = self.hits
        in_top5 = (self.predicted[main] == image_set.labels[None, :, None]).any(axis=2)
        entry['top1_pct'] = metrics.accuracy_pct(hits[main])
        entry['top1_ci95_pct'] = metrics.wilson_ci95_pct(entry['top1_pct'], images)
        entry['top5_pct'] = metrics.accuracy_pct(in_top5)
        if not suite.averaged:
            entry['ece_pct'] = metrics.ece_pct(self.confidence[main], hits[main])
        if suite.corrupted:
            by_kind = hits.mean(axis=1).reshape(-1, len(SEVERITIES)) * 100
            cells = dict(zip((*KINDS, *EXTRA_KINDS), by_kind.tolist(), strict=False))
            entry['cells'] = {kind: cells[kind] for kind in KINDS}
            if len(cells) > len(KINDS):
                entry['extra_cells'] = {kind: cells[kind] for kind in EXTRA_KINDS}
            entry['mean_error_pct'] = metrics.mean_error_pct(entry['cells'])
            entry['source'] = suite.corrupted
            if suite.corrupted == ON_THE_FLY:
                entry |= {key: self.fingerprint[key] for key in ('frost', 'definition')}
        if suite.textures:
            textures = np.array([image_set.classes.index(metrics.texture_class(path)) for path in image_set.paths])
            entry |= metrics.shape_bias(self.predicted[0, :, 0], image_set.labels, textures, image_set.classes)
        return entry

    def fingerprint_entry(self) -> dict:
        """What of the fingerprint stands beside the score."""
        return {'input_size': self.fingerprint['input_size'], 'fingerprint': self.fingerprint}

    def subset_top1_pct(self) -> dict[str, float]:
        """Top-1 over the classes of each subset."""
        rows = zip(self.subsets, self.subset_hits, strict=True)
        return {name: metrics.accuracy_pct(hits[hits >= 0]) for name, hits in rows if (hits >= 0).any()}
