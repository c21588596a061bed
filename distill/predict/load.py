"""From what a user names as a model to a `Predictor`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill.base.packaged import find
from distill.engines.scenes import is_scene_artefact
from distill.predict.predictor import Model, Predictor


def load_predictor(
    source: str | os.PathLike | nn.Module,
    config: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    *,
    topk: int = 5,
    score_threshold: float = 0.3,
    **given: Any,
) -> Predictor:
    """Load a model to show images to.

    Args:
        source: For a classifier anything that `backbones.load` takes, or an exported file; for a detector or segmenter
            a checkpoint of its training.
        config: Config of a detector or segmenter, as a path or a name; by default the one that lies beside the
            checkpoint.
        device: Where the model runs; by default cuda if there is one, otherwise the CPU.
        topk: How many classes of a classifier are told.
        score_threshold: Objects that score less are left out.
        **given: For a classifier, arguments of `backbones.load` such as ``model``, ``classes`` or ``input_size``,
            which win over what the source says; for a detector or segmenter ``classes``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The model cannot be loaded, or an argument does not fit it.
    """
    if topk < 1:
        raise ValueError(f'topk is {topk}; give 1 or more')
    if not 0 <= score_threshold <= 1:
        raise ValueError(f'score_threshold is {score_threshold}; give a number from 0 to 1')
    given = {name: value for name, value in given.items() if value is not None}
    return Predictor(_load(source, config, check_device(device), topk, score_threshold, given))


def _load(
    source: str | os.PathLike | nn.Module,
    config: str | os.PathLike | None,
    device: str,
    topk: int,
    score_threshold: float,
    given: dict[str, Any],
) -> Model:
    """Load a model of one of the kinds there are. Another kind, such as another engine's files, is a branch here."""
    if isinstance(source, nn.Module):
        if config is not None:
            raise ValueError('a config is for the checkpoint of a detector or segmenter; leave it out for a module')
        return _classifier(source, device, topk, given)
    text = os.fspath(source)
    if is_scene_artefact(text):
        return _scene_artefact(text, config, device, score_threshold, given)
    if config is None and 'model' not in given:
        from distill.predict.scenes import find_config

        found = find_config(text)
    else:
        found = find(os.fspath(config)) if config is not None else None
    if found is None:
        return _classifier(text, device, topk, given)
    if not Path(text).is_file():
        raise FileNotFoundError(f"checkpoint '{text}' does not exist; train it first or correct the path")
    return _scenes(text, found, device, score_threshold, given)


def _scene_artefact(
    source: str, config: str | os.PathLike | None, device: str, score_threshold: float, given: dict[str, Any]
) -> Model:
    from distill.engines.scenes import SceneArtefact
    from distill.predict.scene_artefacts import SceneArtefacts

    if config is not None:
        raise ValueError(f"'{source}' tells of itself what a config would; leave the config out")
    artefact = SceneArtefact(source, device=device)
    return SceneArtefacts(artefact, score_threshold, _classes_alone(given, 'its manifest says all that it needs'))


def _classifier(source: str | nn.Module, device: str, topk: int, given: dict[str, Any]) -> Model:
    from distill.predict.classifier import load_classifier

    return load_classifier(source, device, topk, **given)


def _scenes(source: str, config: str, device: str, score_threshold: float, given: dict[str, Any]) -> Model:
    from distill.predict.scenes import load_scenes

    classes = _classes_alone(given, 'its config says all that it needs')
    return load_scenes(source, config, device, score_threshold, classes)


def _classes_alone(given: dict[str, Any], reason: str) -> Sequence[str] | None:
    """The names of classes among what is given.

    Raises:
        ValueError: Something else is given.
    """
    others = [name for name in given if name != 'classes']
    if others:
        raise ValueError(f"a detector or segmenter takes no '{others[0]}', since {reason}; leave it out")
    return given.get('classes')


def check_device(device: str | torch.device | None) -> str:
    """The name of a device that is there.

    Raises:
        ValueError: torch does not know it, or this machine has none.
    """
    has_cuda = torch.cuda.is_available()
    if device is None:
        return 'cuda' if has_cuda else 'cpu'
    try:
        torch.empty(0, device=device)
    # torch's errors for devices that are unknown, not built in or not there have no class in common.
    except Exception as error:
        reason = ' '.join(str(error).split()).partition(' . ')[0][:160]
        raise ValueError(
            f"device '{device}' is not available ({reason}); choose cpu{' or cuda' if has_cuda else ''}"
        ) from None
    return str(device)
