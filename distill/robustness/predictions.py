"""What a run predicted on all images of a suite, as ``predictions/<run>/<suite>.npz`` holds it."""

import os
from dataclasses import dataclass

import numpy as np

from distill.base.files import write_npz
from distill.base.records import Cell


@dataclass
class Predictions:
    """All predictions of a run on a suite, for statistics that need no second run.

    Attributes:
        paths: Of the images, below the suite's folder.
        labels: Index of each image's class among `classes` [images]; -1 without labels.
        classes: Names of the classes, in order.
        cells: The corruptions in which the images were shown; None for images as they are.
        predicted: The five classes with the largest probability [cells, images, 5]; -1 where logits were not finite.
        confidence: The largest probability [cells, images].
    """

    paths: list[str]
    labels: np.ndarray
    classes: list[str]
    cells: list[Cell | None]
    predicted: np.ndarray
    confidence: np.ndarray

    def save(self, path: str | os.PathLike) -> None:
        """Write the predictions; a cell of None is an empty text in the file."""
        cells = ['' if cell is None else str(cell) for cell in self.cells]
        write_npz(path, {**vars(self), 'cells': cells})

    @classmethod
    def load(cls, path: str | os.PathLike) -> 'Predictions':
        """Read what `save` wrote."""
        with np.load(path) as stored:
            return cls(
                stored['paths'].tolist(),
                stored['labels'],
                stored['classes'].tolist(),
                [Cell.parse(text) if text else None for text in stored['cells'].tolist()],
                stored['predicted'],
                stored['confidence'],
            )
