"""The features of frozen networks, and those of all training images, extracted once."""

import inspect
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.base.files import write_npz
from distill.base.forward import embed
from distill.base.processes import barrier, rank_and_count
from distill.robustness.images import SuiteImages, load_batches
from distill.robustness.runs import Run
from distill.robustness.suite_table import ClassSet, Suite
from distill.robustness.suites import ImageSet, open_suite

SAVE_EVERY_S = 60
"""Seconds between saves of what has been extracted: what a stop loses at most."""


class Embedding(nn.Module):
    """A network as a function from images to features.

    Of a timm model the features are what its classifier is shown, ``forward_head(…, pre_logits=True)``: pooled as the
    model pools, and after all of its norms. A network of a user's own without timm's two functions is taken at its
    word: what it returns is its features.

    Args:
        network: The network, in eval mode.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Features [B, D] of normalised images [B, 3, H, W]."""
        if has_head(self.network):
            features: Any = embed(self.network, images)[0]
        else:
            features = self.network(images)
        if not isinstance(features, Tensor) or features.dim() != 2:
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(f'{type(self.network).__name__} gives features {shape}; expected [B, D]')
        return features


def has_head(network: Any) -> bool:
    """Whether a network tells its features from its classifier, as timm's do."""
    head = getattr(network, 'forward_head', None)
    return (
        hasattr(network, 'forward_features') and head is not None and 'pre_logits' in inspect.signature(head).parameters
    )


def open_training(folder: Path, classes: list[str]) -> ImageSet:
    """List the training images and check their class folders.

    Raises:
        ValueError: A class is empty.
    """
    return open_suite(Suite('train', (str(folder.resolve()),), 'none', ClassSet.ALL), folder, classes)


class Bank:
    """The features of training images by one network, extracted when they are first asked for, and kept in a file.

    In several processes each extracts its share; they meet in files.

    Args:
        run: The network, of which `Run.forward` gives features.
        image_set: The training images.
        chosen: Indices of the images that are wanted, in rising order.
        path: File of the features.
        batch_size: Images of a forward pass.
        workers: Processes that decode images.

    Attributes:
        advance: Called with the number of images after each batch.
    """

    def __init__(
        self,
        run: Run,
        image_set: ImageSet,
        chosen: np.ndarray,
        path: Path,
        batch_size: int,
        workers: int,
    ):
        self.run, self.image_set, self.chosen, self.path = run, image_set, chosen, path
        self.batch_size, self.workers = batch_size, workers
        self.advance: Callable[[int], None] = lambda count: None
        self._features: Tensor | None = None

    @property
    def labels(self) -> np.ndarray:
        """Classes of the images that are wanted [N]."""
        return self.image_set.labels[self.chosen]

    def features(self) -> Tensor:
        """Features of the images that are wanted [N, D].

        Raises:
            ValueError: Some are not finite.
        """
        if self._features is None:
            rank, processes = rank_and_count()
            found = self._load()
            barrier()
            if found is None:
                self._extract(rank, processes)
                barrier()
                found = self._load()
                barrier()
                if rank == 0:
                    self._join(found)
            self._features = torch.from_numpy(found)
            if not bool(self._features.isfinite().all()):
                raise ValueError(f"'{self.run.name}' gives features that are not finite; give a network that is whole")
        return self._features

    def _files(self) -> list[Path]:
        """The file of all features, or those of the processes."""
        return sorted(self.path.parent.glob(f'{self.path.stem}.part*.npz')) + [self.path]

    def _load(self) -> Any:
        """All features [N, D] out of the files; None if some are missing."""
        found, done = None, np.zeros(len(self.chosen), bool)
        for path in self._files():
            if not path.is_file():
                continue
            with np.load(path) as file:
                if str(file['follows_from']) != self._follows_from():
                    continue
                found = np.zeros((len(self.chosen), file['features'].shape[1]), np.float32) if found is None else found
                found[file['places']], done[file['places']] = file['features'], True
        return found if done.all() else None

    def _extract(self, rank: int, processes: int) -> None:
        """Extract this process's share of the features, and write them now and then."""
        run = self.run
        images = SuiteImages(self.image_set, run.transform, run.fixed_size)
        own = np.arange(len(self.chosen))[rank::processes]
        places: list[np.ndarray] = []
        features: list[np.ndarray] = []
        part = self.path.with_name(f'{self.path.stem}.part{rank}.npz')
        saved = time.monotonic()
        for number, (shown, _, _) in enumerate(load_batches(images, self.chosen[own], self.batch_size, self.workers)):
            features.append(run.forward(shown[:, 0]).numpy())
            places.append(own[number * self.batch_size : (number + 1) * self.batch_size])
            self.advance(len(shown))
            if time.monotonic() - saved > SAVE_EVERY_S:
                self._write(part, places, features)
                saved = time.monotonic()
        self._write(part, places, features)

    def _write(self, path: Path, places: list[np.ndarray], features: list[np.ndarray]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {'places': np.concatenate(places), 'features': np.concatenate(features)}
        write_npz(path, arrays | {'follows_from': self._follows_from()}, compress=False)

    def _join(self, features: np.ndarray) -> None:
        """Write all features into one file in place of those of the processes."""
        self._write(self.path, [np.arange(len(self.chosen))], [features])
        for path in self._files()[:-1]:
            path.unlink()

    def _follows_from(self) -> str:
        """All that the features follow from."""
        run, shown = self.run, self.run.transform
        known = [run.record['weights_sha256'], self.image_set.sha256, self.chosen.tolist(), shown, run.mean, run.std]
        return json.dumps(known, sort_keys=True, default=list)
