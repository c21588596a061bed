"""The predictions of a run on a suite while they are made: kept for each image, saved now and then, and scored."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.base.files import write_npz
from distill.base.images import DEEP_MODE, STORED_MODES
from distill.results.cells import cells_to_json
from distill.results.entries import Fingerprint, ShownEntry, SuiteEntry
from distill.results.statistics import wilson_score
from distill.robustness import metrics
from distill.robustness.predictions import Predictions
from distill.robustness.suite_table import ON_THE_FLY
from distill.robustness.suites import ImageSet

TOP = 5
NO_DECISION = -1
PROBLEMS = {'L': 'grayscale_images', 'CMYK': 'cmyk_images', DEEP_MODE: '16_bit_images'}
"""Names under which images of a mode are counted, where they have one of their own."""


class Recorder:
    """Collect what one run predicts on one suite.

    Args:
        image_set: The images of the suite.
        fingerprint: What the predictions follow from; predictions with another fingerprint are not mixed in.
        subsets: Columns of the logits by suite; the top-1 over the images of these classes, logits cut to them, is
            recorded as well.

    Attributes:
        predicted: The five classes with the largest probability [cells, images, 5]; -1 where logits were not finite.
        confidence: The largest probability [cells, images].
        modes: Place of the mode that each image is stored in, of `distill.base.images.STORED_MODES` [images].
        subset_hits: For each subset, 1 for a hit, 0 for an error, -1 for an image of another class [subsets, images].
        done: Which images have been seen [images].
    """

    def __init__(
        self,
        image_set: ImageSet,
        fingerprint: Fingerprint,
        subsets: Mapping[str, Sequence[int]] | None = None,
    ):
        cells, images, decisions = len(image_set.cells), len(image_set.paths), len(image_set.groups)
        self.image_set, self.fingerprint = image_set, fingerprint
        self.subsets = {name: torch.tensor(columns) for name, columns in (subsets or {}).items()}
        self.predicted = np.full((cells, images, min(TOP, decisions)), NO_DECISION, np.int16)
        self.confidence = np.zeros((cells, images), np.float32)
        self.modes = np.zeros(images, np.int8)
        self.subset_hits = np.full((len(self.subsets), images), -1, np.int8)
        self.done = np.zeros(images, bool)
        self.decisions = torch.tensor([k for k, _ in image_set.groups])
        self.columns = [columns for _, columns in image_set.groups]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Compute the probability of each decision [B, decisions] from logits [B, K]."""
        if all(len(columns) == 1 for columns in self.columns):
            return logits[:, [columns[0] for columns in self.columns]].softmax(dim=1)
        probabilities = logits.softmax(dim=1)
        return torch.stack([probabilities[:, columns].mean(dim=1) for columns in self.columns], dim=1)

    def add(self, indices: np.ndarray, modes: np.ndarray, logits: Tensor) -> None:
        """Record predictions.

        Args:
            indices: Of the images [B].
            modes: Places of the modes that the images are stored in [B].
            logits: Of the images in all cells [B, cells, K].
        """
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
        """Take over what `save_part` wrote, unless the file's fingerprint is another."""
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
        """Write all predictions, see `Predictions`."""
        shown = self.image_set
        found = Predictions(shown.paths, shown.labels, shown.classes, shown.cells, self.predicted, self.confidence)
        found.save(path)

    @property
    def hits(self) -> np.ndarray:
        """Whether the decision was right [cells, images]."""
        return self.predicted[:, :, 0] == self.image_set.labels

    def problems(self) -> dict[str, int]:
        """Count what a reader of the score should know: images in other modes than RGB, logits that were not finite."""
        counts = {
            PROBLEMS.get(mode, f'{mode.lower()}_images'): int((self.modes == k).sum())
            for k, mode in enumerate(STORED_MODES)
            if mode != 'RGB'
        }
        counts['nan_logits'] = int((self.predicted[:, :, 0] == NO_DECISION).sum())
        return {name: count for name, count in counts.items() if count}

    def shown(self) -> ShownEntry:
        """What ``results.json`` tells of the images, whether they have labels or not."""
        entry: ShownEntry = {
            'images': len(self.image_set.paths),
            'classes': len(self.image_set.groups),
            'input_size': self.fingerprint['input_size'],
            'fingerprint': self.fingerprint,
        }
        if problems := self.problems():
            entry['problems'] = problems
        return entry

    def score(self) -> SuiteEntry:
        """Sum up the scores of images with labels: the entry of the run and the suite in ``results.json``."""
        image_set = self.image_set
        suite, hits = image_set.suite, self.hits
        # The extra kinds are no part of the benchmark.
        main = [place for place, cell in enumerate(image_set.cells) if cell is None or not cell.is_extra]
        in_top5 = (self.predicted[main] == image_set.labels[None, :, None]).any(axis=2)
        top1 = wilson_score(metrics.accuracy_pct(hits[main]), len(image_set.paths))
        entry: SuiteEntry = {
            **self.shown(),
            'top1_pct': top1.value,
            'top1_ci95_pct': [top1.low, top1.high],
            'top5_pct': metrics.accuracy_pct(in_top5),
        }
        if not suite.averaged:
            entry['ece_pct'] = metrics.ece_pct(self.confidence[main], hits[main])
        if suite.corrupted:
            self._add_cells(entry)
        if suite.textures:
            textures = np.array([image_set.classes.index(metrics.texture_class(path)) for path in image_set.paths])
            entry.update(metrics.shape_bias(self.predicted[0, :, 0], image_set.labels, textures, image_set.classes))
        return entry

    def _add_cells(self, entry: SuiteEntry) -> None:
        """Add the keys that the suite ``corruption`` has besides the others."""
        cells = self.image_set.corruptions
        top1_pct = dict(zip(cells, (self.hits.mean(axis=1) * 100).tolist(), strict=True))
        main, extra = ({c: top1_pct[c] for c in cells if c.is_extra == is_extra} for is_extra in (False, True))
        entry['cells'] = cells_to_json(main)
        if extra:
            entry['extra_cells'] = cells_to_json(extra)
        entry['mean_error_pct'] = metrics.mean_error_pct(main)
        entry['source'] = self.image_set.suite.corrupted or ''
        if self.image_set.suite.corrupted == ON_THE_FLY:
            entry['frost'], entry['definition'] = self.fingerprint['frost'], self.fingerprint['definition']
        if 'corrupted_on' in self.fingerprint:
            entry['corrupted_on'] = self.fingerprint['corrupted_on']

    def subset_top1_pct(self) -> dict[str, float]:
        """Sum up the top-1 over the classes of each subset, by suite."""
        rows = zip(self.subsets, self.subset_hits, strict=True)
        return {name: metrics.accuracy_pct(hits[hits >= 0]) for name, hits in rows if (hits >= 0).any()}
