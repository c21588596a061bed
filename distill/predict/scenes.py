"""Detectors and segmenters under prediction, which `distill.downstream.inference` runs."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.predict.outputs import Detection, Prediction, Segmentation, Shown
from distill.predict.photos import Photo

if TYPE_CHECKING:
    from distill.downstream.inference import Instances, SceneModel

OWN_NAMES = re.compile(r'(module\.)?(decode_head|auxiliary_head|roi_head|rpn_head|bbox_head|mask_head|neck)\.')
"""Names of tensors that a detector or segmenter has and a classifier has not."""
BOX_FORMAT = 'xywh: left, top, width, height, in pixels of the upright image'
LABEL_FORMAT = 'a pixel of a label map is the id of its class'


class Scenes:
    """A detector or segmenter as `Predictor` takes it.

    Args:
        model: The model.
        source: The checkpoint that was asked for.
        config: Path of its config.
        score_threshold: Objects that score less are left out.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, model: 'SceneModel', source: str, config: str, score_threshold: float):
        self.model, self.source, self.config, self.score_threshold = model, source, config, score_threshold
        self.task, self.classes = model.task, model.classes

    def prepare(self, photo: Photo) -> dict:
        """What the network is shown: a packed sample.

        Raises:
            ValueError: A step of the test pipeline cannot take the image.
        """
        return self.model.sample(np.asarray(photo.image), photo.path if photo.as_stored else None)

    def key(self, sample: dict) -> tuple[int, ...]:
        """Samples of the same key can be shown together: none of them is padded for the sake of another."""
        return tuple(sample['inputs'].shape)

    def predict(self, samples: Sequence[dict], shown: Sequence[Shown]) -> list[Prediction]:
        """Predict samples of one size."""
        found: Any = self.model.predict(samples)
        make: Any = self._segmentation if self.task == 'segmentation' else self._detection
        return [make(one, result) for one, result in zip(shown, found, strict=True)]

    def _segmentation(self, shown: Shown, labels: np.ndarray) -> Segmentation:
        return Segmentation(shown, self.classes, labels)

    def _detection(self, shown: Shown, found: 'Instances') -> Detection:
        kept = found.scores >= self.score_threshold
        masks = None if found.masks is None else found.masks[kept]
        return Detection(shown, self.classes, found.boxes[kept], found.scores[kept], found.labels[kept], masks)

    def describe(self) -> dict:
        """The model and its preprocessing, for ``predictions.json``."""
        model = {
            'source': self.source,
            'name': type(self.model.network).__name__,
            'config': self.config,
            'weights_sha256': self.model.weights_sha256,
        }
        settings: dict[str, Any] = {}
        if self.task == 'detection':
            settings['score_threshold'] = self.score_threshold
            model['bbox_format'] = BOX_FORMAT
        else:
            model['labels_format'] = LABEL_FORMAT
        return {'model': model, 'preprocessing': {'test_pipeline': self.model.steps}, 'settings': settings}


def find_config(source: str) -> str | None:
    """The config of a detector's or segmenter's checkpoint; None for any other source.

    Args:
        source: What a user names as a model.

    Raises:
        ValueError: The checkpoint is a detector's or segmenter's, and no config lies beside it; or there are several.
    """
    from backbones.record import ModelRecord
    from backbones.weights.checkpoint_file import ENDINGS

    path = Path(source)
    if not path.is_file() or path.suffix not in ENDINGS or ModelRecord.read(path) is not None:
        return None
    if any(path.parent.glob('*.py')):
        from distill.downstream.inference import config_beside

        if (found := config_beside(path)) is not None:
            return str(found)
    if is_scene_checkpoint(path):
        raise ValueError(
            f"checkpoint '{source}' is a detector's or segmenter's, and its config does not lie beside it; name it "
            'with --config (in Python: config=…)'
        )
    return None


def is_scene_checkpoint(path: str | os.PathLike) -> bool:
    """Whether a checkpoint has the weights of a detector's or segmenter's heads."""
    from backbones.checkpoint import read_weights

    try:
        return any(map(OWN_NAMES.match, read_weights(path)))
    except ValueError:
        # What loads the weights refuses the file in its own words.
        return False


def load_scenes(
    source: str, config: str, device: str, score_threshold: float, classes: Sequence[str] | None = None
) -> Scenes:
    """Load a detector or segmenter.

    Args:
        source: Its checkpoint.
        config: Path of its config.
        device: Where it runs.
        score_threshold: Objects that score less are left out.
        classes: Names of the classes in place of the checkpoint's.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        ValueError: The config is no detector's or segmenter's, or the checkpoint does not fit it.
    """
    from distill.downstream.inference import load_scene_model

    return Scenes(load_scene_model(source, config, device, classes), source, config, score_threshold)
