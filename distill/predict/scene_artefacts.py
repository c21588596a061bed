"""Exported detectors and segmenters under prediction, without mmdet and mmsegmentation: by their engine alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.engines.scenes import Objects, SceneArtefact
from distill.predict.outputs import Detection, Prediction, Segmentation, Shown
from distill.predict.photos import Photo
from distill.predict.scenes import BOX_FORMAT, LABEL_FORMAT


@dataclass(frozen=True)
class Sample:
    """An image as an artefact is shown it, R, G, B, uint8 [h, w, 3], and its height and width before."""

    resized: np.ndarray
    size: tuple[int, int]


class SceneArtefacts:
    """An exported detector or segmenter as `Predictor` takes it.

    Args:
        artefact: The opened file.
        score_threshold: Objects that score less are left out.
        classes: Names of the classes in place of the manifest's.

    Raises:
        ValueError: There are more or fewer names than the artefact has classes.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, artefact: SceneArtefact, score_threshold: float, classes: Sequence[str] | None = None):
        self.artefact, self.score_threshold = artefact, score_threshold
        self.task, self.classes = artefact.task, list(classes or artefact.classes)
        if len(self.classes) != len(artefact.classes):
            raise ValueError(
                f"'{artefact.path}' has {len(artefact.classes)} classes, and {len(self.classes)} names are given; give "
                'each one a name by classes'
            )

    def prepare(self, photo: Photo) -> Sample:
        """What the network is shown: the image, resized as the config's test pipeline does."""
        image = np.asarray(photo.image)
        size = image.shape[0], image.shape[1]
        return Sample(self.artefact.resized(image), size)

    def key(self, sample: Sample) -> tuple[int, ...]:
        """Samples of the same key can be shown together."""
        return sample.resized.shape

    def predict(self, samples: Sequence[Sample], shown: Sequence[Shown]) -> list[Prediction]:
        """Predict samples of one size, one after the other."""
        found = [self.artefact.show(one.resized, one.size) for one in samples]
        return [self._prediction(about, result) for about, result in zip(shown, found, strict=True)]

    def _prediction(self, shown: Shown, found: Objects | np.ndarray) -> Prediction:
        if not isinstance(found, Objects):
            return Segmentation(shown, self.classes, found)
        kept = found.scores >= self.score_threshold
        masks = None if found.masks is None else found.masks[kept]
        return Detection(shown, self.classes, found.boxes[kept], found.scores[kept], found.labels[kept], masks)

    def describe(self) -> dict:
        """The artefact and its preprocessing, for ``predictions.json``."""
        manifest = self.artefact.manifest
        detects = self.task == 'detection'
        model = {
            'source': self.artefact.path,
            'name': manifest.model,
            'engine': manifest.engine,
            'precision': manifest.precision,
            'sha256': manifest.sha256,
            'weights_sha256': manifest.weights_sha256,
        }
        formats = {'bbox_format': BOX_FORMAT} if detects else {'labels_format': LABEL_FORMAT}
        settings: dict[str, Any] = {'score_threshold': self.score_threshold} if detects else {}
        preprocessing = {'resize': manifest.details.get('resize'), 'mean': manifest.mean, 'std': manifest.std}
        return {'model': model | formats, 'preprocessing': preprocessing, 'settings': settings}
