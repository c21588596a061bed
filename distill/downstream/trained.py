"""A trained detector or segmenter out of a config and a checkpoint: what is predicted with, and what teaches."""

import os
import warnings
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

import backbones.openmmlab  # noqa: F401 - puts the stand-ins in, also where a loader process unpickles a pipeline
from backbones.weights.checkpoint_file import read_checkpoint
from distill.downstream.checks.model import saved_classes
from distill.downstream.complete import complete, dicts_inside
from distill.downstream.student_config import student_alone
from distill.training.checkpoints import prepare, read_safely
from distill.training.experiment import SCOPES, check_weights, import_modules, read_file
from distill.training.runner import type_name


@dataclass(frozen=True)
class Trained:
    """A network with its weights.

    Attributes:
        network: The detector or segmenter, on the CPU, in eval mode.
        config: Its config, with what `complete` has added and without what it was distilled with.
        classes: The classes that the checkpoint says it was trained with; None if it does not say.
    """

    network: Any
    config: Config
    classes: list[str] | None


def read_scene_config(config: str | os.PathLike, otherwise: str) -> Config:
    """Read a detector's or segmenter's config.

    Args:
        config: Its path.
        otherwise: What to do with another config, for the error.

    Raises:
        FileNotFoundError: There is no such config.
        ValueError: The config is another one's.
    """
    settings = read_file(os.fspath(config))
    if settings.get('default_scope') not in SCOPES:
        raise ValueError(
            f"config '{config}' is no detector's or segmenter's (default_scope is {settings.get('default_scope')}); "
            f'{otherwise}'
        )
    return settings


def load_trained(settings: Config, checkpoint: str, whose: str = '', advice: str | None = None) -> Trained:
    """Build the model of a config, and load its weights.

    Args:
        settings: A detector's or segmenter's config, which is changed in place.
        checkpoint: The weights.
        whose: What the error calls the checkpoint besides, such as ``the teacher's ``.
        advice: The way out in the error about a checkpoint that does not fit.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        ValueError: The checkpoint does not fit the model.
    """
    import_modules(settings)
    complete(settings)
    student_alone(settings)
    _without_pretraining(settings.model)
    # A backbone whose name stands beside its weights alone is built from these.
    read_safely()
    network = build_network(settings)
    try:
        check_weights(network, checkpoint, **({'advice': advice} if advice else {}))
        content = prepare(read_checkpoint(checkpoint), network, checkpoint, resume=False)
    except ValueError as error:
        raise ValueError(f'{whose}{error}') from None
    network.load_state_dict(content['state_dict'], strict=False)
    meta = content.get('meta')
    told = saved_classes(meta) if isinstance(meta, dict) else None
    return Trained(network.eval(), settings, list(told) if told is not None else None)


def _without_pretraining(model: dict) -> None:
    """Leave out the files that training began with: the checkpoint has all weights, and they may be elsewhere."""
    for part in dicts_inside(model):
        if type_name(part) == 'TimmBackbone':
            if part.get('model') is not None:
                part.pop('checkpoint', None)
            part.pop('pretrained', None)
        part.pop('init_cfg', None)


def build_network(config: Config) -> nn.Module:
    """Build a model by OpenMMLab's own function, without weights, and without its guess of classes.

    The scope of this process, which that function would set for good, stays as it is.
    """
    scope = DefaultScope.overwrite_default_scope(config.default_scope)
    # Recorded, because mmdet itself asks for what it warns about to be shown: that it guesses classes.
    with scope, warnings.catch_warnings(record=True):
        if config.default_scope == 'mmdet':
            from mmdet.apis import init_detector

            return init_detector(config, None, palette='random', device='cpu')
        from mmseg.apis import init_model

        return init_model(config, None, device='cpu')


def number_of_classes(network: nn.Module) -> int | None:
    """The number of classes of a model's heads, or None if they do not tell."""
    for name in ('decode_head', 'roi_head', 'bbox_head', 'mask_head'):
        head = getattr(network, name, None)
        for module in head.modules() if isinstance(head, nn.Module) else ():
            count = getattr(module, 'num_classes', None)
            if isinstance(count, int):
                return count
    return None
