"""A trained detector or segmenter that is shown images of a user's own, by its own test pipeline and `test_step`."""

import copy
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import TRANSFORMS, DefaultScope
from torch import Tensor

from backbones.checkpoint import weights_sha256
from backbones.weights.checkpoint_file import read_checkpoint
from distill.downstream.class_order import classes_of
from distill.downstream.trained import load_trained, number_of_classes, read_scene_config
from distill.training.experiment import SCOPES, check_sections
from distill.training.runner import datasets_inside, type_name

DETECTION, SEGMENTATION = 'detection', 'segmentation'
TASKS = dict(zip(SCOPES, (DETECTION, SEGMENTATION), strict=True))
NOT_FOR_PHOTOS = ('LoadAnnotations', 'LoadPanopticAnnotations', 'CheckSample')
"""Steps of a test pipeline that look for annotations, or into a data set's file."""
NARROW = 100
"""How many times longer than wide an image is that a resize may leave no pixel of."""
SCOPE = re.compile(rf"^default_scope\s*=\s*['\"]({'|'.join(SCOPES)})['\"]", re.M)
"""The line of a dumped config that tells a detector's or segmenter's."""


@dataclass(frozen=True)
class Instances:
    """The objects that a detector finds in an image, in its pixels.

    Attributes:
        boxes: Left, top, right, bottom, float32 [N, 4].
        scores: float32 [N].
        labels: int64 [N].
        masks: bool [N, H, W], or None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None


class SceneModel:
    """A detector or segmenter in eval mode.

    Args:
        network: The model, on its device, with its weights.
        config: Its config.
        classes: Names of its classes, in the order of the labels.
        weights_sha256: Hash of the weights.

    Attributes:
        task: ``detection`` or ``segmentation``.
        steps: The steps of the test pipeline that are run, by name.
    """

    def __init__(self, network: Any, config: Config, classes: list[str], weights_sha256: str):
        self.network, self.config, self.classes, self.weights_sha256 = network, config, classes, weights_sha256
        self.task = TASKS[config.default_scope]
        steps = [step for step in test_pipeline(config) if type_name(step) not in NOT_FOR_PHOTOS]
        place = next((k for k, step in enumerate(steps) if type_name(step).startswith('LoadImage')), None)
        if place is None:
            raise ValueError(f"the test pipeline of '{config.filename}' has no step LoadImage…; add LoadImageFromFile")
        loader = steps[place]
        self.settings = copy.deepcopy(steps[place + 1 :])
        # mmcv's own default is OpenCV.
        self.reads_by_pillow = loader.get('imdecode_backend') == 'pillow' and loader.get('color_type') in (
            None,
            'color',
        )
        with self._scope():
            self._read = TRANSFORMS.build(dict(loader))
            from_memory = {'to_float32': True} if loader.get('to_float32') else {}
            scoped = dict(type=f'{config.default_scope}.LoadImageFromNDArray', **from_memory)
            self._take = TRANSFORMS.build(scoped)
            # Steps before the one that loads an image are for data sets.
            self._others = Compose([dict(step) for step in self.settings])

    def _scope(self):
        return DefaultScope.overwrite_default_scope(self.config.default_scope)

    @property
    def steps(self) -> list[dict]:
        """What happens to an image before the network sees it, as plain values."""
        return [dict(step, type=type_name(step)) for step in Config(dict(steps=self.settings)).to_dict()['steps']]

    def sample(self, image: np.ndarray, path: str | None = None) -> dict:
        """What the network is shown of an image.

        Args:
            image: RGB, uint8 [H, W, 3].
            path: The image's file, if its pixels are those that any decoder gives: a config that reads files by another
                decoder than Pillow then reads it by that one, as a test does, whose JPEG may differ by a level.

        Returns:
            ``inputs`` and ``data_samples``, as the pipeline packs them.

        Raises:
            ValueError: A step cannot take the image.
        """
        results: dict[str, Any] | None = None
        try:
            if path is not None and not self.reads_by_pillow:
                results = self._read(dict(img_path=path, img_id=0))
            if results is None or tuple(results['ori_shape'][:2]) != image.shape[:2]:
                results = self._take(dict(img=np.ascontiguousarray(image[..., ::-1]), img_id=0))
            packed = self._others(results)
        # OpenCV's and numpy's errors for images of too few pixels have no class in common.
        except Exception as error:
            if isinstance(error, (MemoryError, ImportError)):
                raise
            narrow = max(image.shape[:2]) > NARROW * min(image.shape[:2])
            reason = 'it is too narrow to be resized' if narrow else _first_line(error)
            raise ValueError(f'the test pipeline cannot take it ({reason})') from None
        if packed is None:
            raise ValueError('the test pipeline leaves it out')
        return packed

    @torch.no_grad()
    def predict(self, samples: Sequence[dict]) -> list[Instances] | list[np.ndarray]:
        """Show samples of one size to the network.

        Returns:
            For each sample its instances, or its labels [H, W] in uint8, or uint16 for more than 256 classes; of the
            image's own size.

        Raises:
            ValueError: The model gives neither.
        """
        with self._scope():
            results = self.network.test_step(pseudo_collate(list(samples)))
        if self.task == SEGMENTATION:
            kind = np.uint8 if len(self.classes) <= 256 else np.uint16
            return [one.pred_sem_seg.data[0].cpu().numpy().astype(kind) for one in results]
        if any('pred_instances' not in one for one in results):
            raise ValueError(f"a {type(self.network).__name__} finds no instances; give a detector's checkpoint")
        return [instances(one.pred_instances) for one in results]


def instances(found: Any) -> Instances:
    """mmdet's `InstanceData` as arrays, the surest object first."""
    order = found.scores.argsort(descending=True, stable=True)
    boxes = getattr(found.bboxes, 'tensor', found.bboxes)
    masks = found.get('masks')
    if masks is not None:
        masks = torch.as_tensor(masks)[order.to(torch.as_tensor(masks).device)].cpu().numpy().astype(bool)

    def to_array(values: Tensor) -> np.ndarray:
        return values[order].cpu().numpy()

    return Instances(to_array(boxes.float()), to_array(found.scores.float()), to_array(found.labels), masks)


def test_pipeline(config: Config) -> list:
    """The steps that a config's test goes through."""
    return list(first_dataset(config)['pipeline'])


def config_beside(checkpoint: str | os.PathLike) -> Path | None:
    """The config of a detector or segmenter that mmengine has dumped beside its checkpoint; None if there is none.

    Args:
        checkpoint: A file in a work directory.

    Raises:
        ValueError: There are several, and the checkpoint does not say which one it is of.
    """
    folder = Path(checkpoint).parent
    found = [path for path in sorted(folder.glob('*.py')) if SCOPE.search(path.read_text('utf-8', 'replace'))]
    if len(found) > 1:
        content = read_checkpoint(checkpoint)
        meta = content.get('meta') if isinstance(content, dict) else None
        experiment = str(meta.get('experiment_name', '')) if isinstance(meta, dict) else ''
        named = [path for path in found if re.fullmatch(rf'{re.escape(path.stem)}_\d+_\d+', experiment)]
        if len(named) != 1:
            names = ', '.join(path.name for path in found)
            raise ValueError(f"several configs lie beside '{checkpoint}' ({names}); choose one with --config")
        found = named
    return found[0] if found else None


def load_scene_model(
    checkpoint: str | os.PathLike, config: str | os.PathLike, device: str, classes: Sequence[str] | None = None
) -> SceneModel:
    """Build the model of a config with the weights of a checkpoint.

    Args:
        checkpoint: The weights, of this project's training or of mmengine's.
        config: The config that it was trained with.
        device: Where the model runs.
        classes: Names of the classes, in the order of the labels; None takes those of the checkpoint, or else of the
            config's test set.

    Raises:
        FileNotFoundError: There is no such config or checkpoint.
        ValueError: The config is no detector's or segmenter's, or the checkpoint does not fit it.
    """
    path = os.fspath(checkpoint)
    settings = read_scene_config(config, 'a student is predicted with by its student_best.pth, without a config')
    check_sections(settings, 'prediction', 'model', 'test_dataloader.dataset')
    trained = load_trained(settings, path)
    network = trained.network
    names = list(classes or trained.classes or classes_of(first_dataset(settings), settings))
    count = number_of_classes(network)
    if count is not None and len(names) != count:
        raise ValueError(
            f"checkpoint '{path}' is of a model with {count} classes, and {len(names)} names are known; give each one "
            'a name by classes'
        )
    digest = weights_sha256(network.state_dict())
    return SceneModel(network.to(device), settings, names, digest)


def first_dataset(config: Config) -> dict:
    """The config of the data set that a test reads, out of the wrappers around it."""
    return next(datasets_inside(config.test_dataloader.dataset))


def _first_line(error: Exception) -> str:
    return ' '.join(str(error).split())[:200] or type(error).__name__
