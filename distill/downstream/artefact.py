"""An artefact of a detector or segmenter in the place of the model: same files, same metrics, same corruptions."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from backbones.checkpoint import read_weights, weights_sha256
from distill.downstream.checks.hook import base_datasets, class_names
from distill.downstream.checks.model import check_order
from distill.downstream.decisions import decide_fast
from distill.downstream.inference import TASKS
from distill.downstream.student_config import student_weights
from distill.engines import is_artefact
from distill.engines.artefact import Manifest
from distill.engines.scenes import Objects, SceneArtefact, scene_manifest
from distill.training.experiment import build_runner, check_weights
from distill.training.runner import Runner


class Classes(nn.Module):
    """What the checks of data against a model ask a head for."""

    ignore_index = 255

    def __init__(self, num_classes: int):
        super().__init__()
        self.num_classes = num_classes


@MODELS.register_module()
class ArtefactModel(BaseModel):
    """A model that asks an artefact. It takes what a config's test pipeline packs, image by image.

    Args:
        path: The artefact.
        threads: Of its engine, or None for its own choice.
    """

    def __init__(self, path: str, threads: int | None = None):
        super().__init__()
        self.artefact = SceneArtefact(path, threads)
        # Under the names that segmenters and detectors have.
        setattr(self, f'{"decode" if self.artefact.task == "segmentation" else "bbox"}_head', Classes(self.count))

    @property
    def count(self) -> int:
        """Number of classes."""
        return len(self.artefact.classes)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor') -> Any:
        """An artefact has no forward pass of its own; `test_step` runs it."""
        raise NotImplementedError('an artefact is tested only')

    def test_step(self, data: dict) -> list:
        """See `predict`."""
        return predict(data, self.artefact.show)


def predict(data: dict, show: Callable[[np.ndarray, tuple[int, int]], Objects | np.ndarray]) -> list:
    """Ask an artefact about a batch.

    Args:
        data: ``inputs``, images B, G, R, uint8 [3, h, w]; and ``data_samples`` with their sizes.
        show: Shows it one image, see `SceneArtefact.show`.

    Returns:
        The data samples with the predictions, as mmdet's and mmseg's models return them.
    """
    for image, sample in zip(data['inputs'], data['data_samples'], strict=True):
        found = show(image.cpu().numpy()[::-1].transpose(1, 2, 0), tuple(sample.ori_shape))
        if isinstance(found, Objects):
            sample.pred_instances = _instances(found)
            _plain_boxes(sample)
        else:
            sample.pred_sem_seg = PixelData(data=torch.from_numpy(found.astype(np.int64))[None])
    return data['data_samples']


def _instances(found: Objects) -> InstanceData:
    """Objects as mmdet's models return them."""
    values = {'bboxes': found.boxes, 'scores': found.scores, 'labels': found.labels, 'masks': found.masks}
    return InstanceData(**{key: torch.from_numpy(value) for key, value in values.items() if value is not None})


def _plain_boxes(sample: Any) -> None:
    """Take the annotated boxes out of mmdet's type for boxes, as its data preprocessor does."""
    for name in ('gt_instances', 'ignored_instances'):
        boxes = getattr(sample.get(name), 'bboxes', None)
        if hasattr(boxes, 'tensor'):
            sample.get(name).bboxes = boxes.tensor


def build_tested(
    config: Config, hooks: Sequence[Hook] = (), notes: Sequence[str] = (), kind: type[Runner] = Runner
) -> Runner:
    """Build the runner of a test: of the config's model with the weights of ``load_from``, or of an artefact there.

    Args:
        config: A config of any task, with ``load_from``.
        hooks: Further hooks.
        notes: Lines for the log.
        kind: The class of the runner.

    Raises:
        ValueError: The checkpoint or the artefact does not fit the config.
    """
    if not is_artefact(config.load_from):
        runner = build_runner(config, hooks, notes, kind)
        check_weights(runner.model, config.load_from)
        decide_fast(runner.model)
        return runner
    path = config.load_from
    check_artefact(config)
    tested = copy.deepcopy(config)
    tested.model = dict(type='mmengine.ArtefactModel', path=path)
    tested.load_from = None
    runner = build_runner(tested, hooks, notes, kind)
    classes = class_names(base_datasets(runner.test_loop.dataloader.dataset)[0])
    check_order(runner.model.artefact.classes, f"artefact '{path}'", classes, 'metainfo.classes')
    return runner


def check_artefact(config: Config) -> None:
    """Check that an artefact is of the task of a config, before the data are read.

    Raises:
        ValueError: It is not, or the test is augmented.
    """
    path = config.load_from
    check_artefact_task(scene_manifest(path), config, f"artefact '{path}'")
    if 'module' in config.model:
        raise ValueError(f"artefact '{path}' cannot be tested with augmentation; drop --tta")


def check_artefact_task(manifest: Manifest, config: Config, what: str) -> None:
    """Check that an artefact is of the task of a config.

    Args:
        manifest: Of the artefact.
        config: The config.
        what: What the error calls the artefact.

    Raises:
        ValueError: It is not.
    """
    task = TASKS.get(config.get('default_scope'))
    if manifest.task != task:
        raise ValueError(
            f"{what} is of the task {manifest.task}, and '{config.filename}' of the task {task}; "
            'test it with the config that it was exported with'
        )


def tested_sha256(path: str) -> str:
    """Hash of what is tested: of a checkpoint's weights (of a distilled student's, its own) or of an artefact."""
    return scene_manifest(path).sha256 if is_artefact(path) else weights_sha256(student_weights(read_weights(path)))
