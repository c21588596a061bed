"""Classifiers on one network's features, each a run of its own that is judged like any classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from distill.robustness.probe.features import Bank
from distill.robustness.probe.labels import choose_held_out, choose_labelled
from distill.robustness.probe.linear import LinearProbe, fit_probe, logistic, ridge
from distill.robustness.probe.neighbours import NEIGHBOURS, TEMPERATURE, NearestNeighbours
from distill.robustness.runs import Run

METHODS = ('knn', 'linear', 'ridge')
"""k-NN, logistic regression, and ridge regression in closed form."""


@dataclass(frozen=True)
class Kind:
    """What a classifier learns from.

    Attributes:
        method: Of `METHODS`.
        share: Share of the labels of each class.
        seed: Which images of each class those are, and which of them are held out.
        neighbours: k of k-NN.
        temperature: T of k-NN.
    """

    method: str
    share: float = 1.0
    seed: int = 0
    neighbours: int = NEIGHBOURS
    temperature: float = TEMPERATURE

    @property
    def name(self) -> str:
        """The part of a run's name that tells the classifier: ``knn``, ``linear-10pct-seed0``."""
        return self.method if self.share == 1 else f'{self.method}-{100 * self.share:g}pct-seed{self.seed}'

    @property
    def label(self) -> str:
        """For people, without the seed: ``k-NN, 10 % of labels``."""
        method = {'knn': 'k-NN', 'linear': 'linear', 'ridge': 'ridge'}[self.method]
        return method if self.share == 1 else f'{method}, {100 * self.share:g} % of labels'

    @classmethod
    def of(cls, record: Mapping) -> 'Kind':
        """The kind that a run's record tells."""
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})


def kinds_of(
    methods: Sequence[str], shares: Sequence[float], seeds: Sequence[int], neighbours: int, temperature: float
) -> list[Kind]:
    """All classifiers that are asked for; with all labels there is nothing to draw, and one is enough."""
    return [
        Kind(method, share, seed, neighbours, temperature)
        for share in shares
        for method in methods
        for seed in (seeds[:1] if share == 1 else seeds)
    ]


class Head:
    """A classifier on features, which learns when it is first needed.

    Args:
        kind: What it learns from.
        bank: The features of the training images.
    """

    def __init__(self, kind: Kind, bank: Bank):
        self.kind, self.bank = kind, bank
        self._decide: NearestNeighbours | LinearProbe | None = None

    def prepare(self) -> None:
        """Learn from the features, unless that is done."""
        if self._decide is not None:
            return
        kind, bank = self.kind, self.bank
        labels = bank.image_set.labels
        # Of the labelled images, whose features are among those of the bank.
        chosen = choose_labelled(labels, kind.share, kind.seed)
        places = np.searchsorted(bank.chosen, chosen)
        features, own = bank.features()[places], torch.from_numpy(labels[chosen].astype(np.int64))
        count, device = len(bank.image_set.classes), bank.run.device
        if kind.method == 'knn':
            self._decide = NearestNeighbours(features, own, count, kind.neighbours, kind.temperature, device)
        else:
            held_out = torch.from_numpy(choose_held_out(labels[chosen], kind.seed))
            path = logistic if kind.method == 'linear' else ridge
            self._decide = fit_probe(path, features, own, count, held_out, device)

    def __call__(self, features: Tensor) -> Tensor:
        """Logits [B, K] of features [B, D]."""
        self.prepare()
        assert self._decide is not None
        return self._decide(features)

    @property
    def learnt(self) -> dict:
        """What learning has chosen, for the record of the run."""
        if not isinstance(self._decide, LinearProbe):
            return {}
        return {'strength': self._decide.strength, 'held_out_top1_pct': self._decide.held_out_top1_pct}


def labelled_images(labels: np.ndarray, kinds: Sequence[Kind]) -> np.ndarray:
    """Indices, in rising order, of the training images that any of the classifiers learns from."""
    draws = {(kind.share, kind.seed) for kind in kinds}
    return np.unique(np.concatenate([choose_labelled(labels, share, seed) for share, seed in draws]))


def head_runs(trunk: Run, bank: Bank, kinds: Sequence[Kind]) -> list[Run]:
    """The runs of all classifiers on a network's features.

    Args:
        trunk: The network, of which `Run.forward` gives features.
        bank: The features of the training images.
        kinds: The classifiers.
    """
    images = bank.image_set
    runs = []
    for kind in kinds:
        probe: dict = {'method': kind.method, 'share': kind.share, 'seed': kind.seed, 'train_sha256': images.sha256}
        probe['images'] = len(choose_labelled(images.labels, kind.share, kind.seed))
        if kind.method == 'knn':
            probe |= {'neighbours': kind.neighbours, 'temperature': kind.temperature}
        record = {**trunk.record, 'probe': probe}
        run = replace(trunk, name=f'{trunk.name}.{kind.name}', classes=list(images.classes), record=record)  # type: ignore[arg-type]
        run.head = Head(kind, bank)
        runs.append(run)
    return runs
