"""Models on disk: a plain state dict, and beside it a `ModelRecord` with the name and arguments of the model.

``student_best.pth`` holds tensors only and loads with ``timm.create_model(name, checkpoint_path=…)``. With the record
``student_best.json`` beside it, `build_model` needs the path alone.
"""

import difflib
import hashlib
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from backbones.files import atomic_write
from backbones.record import ModelRecord

PREFIXES = ('student.', 'backbone.net.', 'backbone.')
"""Beginnings of the names of a model's tensors in checkpoints of distillations, of this project's detectors and
segmenters, and of other projects' detectors."""

CONTAINERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model', 'model_state')
"""Keys under which a checkpoint holds a state dict. Averaged weights come first, as in ``timm.create_model``."""


class _Inert:
    """Stands for an object of a checkpoint that is no tensor: it takes its state and forgets it."""

    def __new__(cls, *args):
        return super().__new__(cls)

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


# timm's and mmengine's training scripts write arguments and logs beside the weights. torch's weights-only loading knows
# an allowed object by its name, so each of these names leads to a class that does nothing; the real `getattr` stays out
# of reach.
INERT: list[Callable | tuple[Callable, str]] = [
    type(name, (_Inert,), {'__module__': module})
    for module, name in (
        ('argparse', 'Namespace'),
        ('mmengine.logging.history_buffer', 'HistoryBuffer'),
        ('builtins', 'getattr'),
        ('numpy', 'dtype'),
        ('numpy', 'ndarray'),
        ('numpy.core.multiarray', '_reconstruct'),
        ('numpy.core.multiarray', 'scalar'),
        ('numpy._core.multiarray', '_reconstruct'),
        ('numpy._core.multiarray', 'scalar'),
    )
]


def save_model(path: str | os.PathLike, model: nn.Module, record: ModelRecord) -> None:
    """Write the weights of a model, and the record of the model beside them.

    Args:
        path: Path of the weights, ending in ``.pth``.
        model: A timm model.
        record: Record of the model; the hash of the weights is added.
    """
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    with atomic_write(path) as temporary:
        torch.save(weights, temporary)
    replace(record, weights_sha256=weights_sha256(weights)).write(path)


def read_weights(path: str | os.PathLike, prefix: str | None = '') -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint of timm's, of this project, of the official RobustCNN code or of mmengine.

    Args:
        path: A ``.pth`` or ``.pth.tar`` file: a state dict, or a dict that holds one under one of ``CONTAINERS``.
        prefix: Take the tensors whose names begin with this, and leave the prefix out of their names. None takes the
            first of ``PREFIXES`` that some name begins with, or all tensors if there is none.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds objects besides plain values and tensors, holds no tensors, or is damaged; or no
            name begins with the prefix.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint '{path}' does not exist; train it first or correct the path")
    try:
        with torch.serialization.safe_globals(INERT):
            content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"checkpoint '{path}' holds Python objects besides tensors and is not loaded, since that could run code; "
            'save a plain state dict'
        ) from None
    except (RuntimeError, EOFError) as error:
        reason = str(error).partition('\n')[0]
        raise ValueError(f"checkpoint '{path}' is damaged ({reason}); copy or train it again") from None
    if isinstance(content, dict):
        content = next((content[key] for key in CONTAINERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise ValueError(f"checkpoint '{path}' holds no state dict; expected a dict of tensors by name")
    weights = {k.removeprefix('module.'): v for k, v in content.items()}
    if prefix is None:
        prefix = next((p for p in PREFIXES if any(k.startswith(p) for k in weights)), '')
    chosen = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    if weights and not chosen:
        there = sorted({k.partition('.')[0] + '.' for k in weights})
        raise ValueError(
            f"checkpoint '{path}' has no name that begins with '{prefix}'; its names begin with {_first(there)}"
        )
    return chosen


def weights_sha256(weights: Mapping[str, torch.Tensor]) -> str:
    """A hash of names, types, shapes and values that does not depend on the order or the file format."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_model_name(name: str) -> str:
    """Return the name of a model if timm's registry has it.

    Raises:
        ValueError: The registry has no such name; the message has the closest ones.
    """
    if timm.is_model(name.split('.')[0]) or name.startswith(('hf-hub:', 'local-dir:')):
        return name
    close = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.5)
    hint = f'did you mean {", ".join(close)}?' if close else 'see timm.list_models()'
    raise ValueError(f"model '{name}' is unknown; {hint}")


def resolve_model(
    model: str | None = None,
    checkpoint: str | os.PathLike | None = None,
    pretrained: bool = False,
    resample_stem: bool = False,
    **model_kwargs,
) -> ModelRecord:
    """Describe the model that `build_model` makes of the same arguments, without building it.

    Args:
        model: timm's name; may be left out for a checkpoint with a record beside it.
        checkpoint: Path of the weights, with or without a record beside it.
        pretrained: No part of the description.
        resample_stem: No part of the description.
        **model_kwargs: Arguments of ``timm.create_model``; they win over the record's.

    Returns:
        The record beside the checkpoint with the name and all arguments of the model, or a record of these alone.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: No name is given or found, it is unknown, or the checkpoint holds another model.
    """
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise FileNotFoundError(f"checkpoint '{checkpoint}' does not exist; train it first or correct the path")
    record = ModelRecord.read(checkpoint) if checkpoint is not None else None
    if record is None:
        if model is None:
            raise ValueError("no model is given; give timm's name, or a checkpoint with a record (.json) beside it")
        return ModelRecord(check_model_name(model), model_kwargs)
    if model not in (None, record.model):
        check_model_name(model)
        raise ValueError(f"checkpoint '{checkpoint}' holds {record.model} and not {model}; change either")
    return replace(record, model=check_model_name(record.model), model_kwargs={**record.model_kwargs, **model_kwargs})


def build_model(
    model: str | None = None,
    checkpoint: str | os.PathLike | None = None,
    pretrained: bool = False,
    resample_stem: bool = False,
    **model_kwargs,
) -> nn.Module:
    """Build a timm model, from a name, a checkpoint of this project, or both.

    Args:
        model: timm's name; may be left out for a checkpoint with a record beside it.
        checkpoint: Weights to load, all of them.
        pretrained: Load timm's pretrained weights instead.
        resample_stem: Interpolate the patchify stem of the checkpoint to the ``patch_size`` of the model; otherwise a
            stem of another patch size is an error.
        **model_kwargs: Arguments of ``timm.create_model``; they win over the record's.

    Returns:
        The model.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The name is unknown, or the checkpoint does not fit the model.
    """
    record = resolve_model(model, checkpoint, **model_kwargs)
    network = timm.create_model(record.model, pretrained=pretrained, **record.model_kwargs)
    if checkpoint is not None:
        source = f"checkpoint '{checkpoint}'"
        weights = fit_weights(network, read_weights(checkpoint, prefix=None), source, resample_stem)
        load_all(network, weights, source, record.model)
    return network


def fixed_size(network: nn.Module) -> tuple[int, int] | None:
    """The one input size (height, width) in pixels that a model takes, or None if it takes any."""
    patch_embed: Any = getattr(network, 'patch_embed', None)
    config: Any = network.pretrained_cfg
    if getattr(patch_embed, 'img_size', None):
        size = patch_embed.img_size if patch_embed.strict_img_size else None
    else:
        size = config['input_size'][-2:] if config.get('fixed_input_size') else None
    return tuple(size) if size is not None else None


def fit_weights(
    network: nn.Module, weights: Mapping[str, torch.Tensor], source: str, resample_stem: bool = False
) -> Mapping[str, torch.Tensor]:
    """Weights whose patchify stem has the patch size of the network.

    A model of another patch size is another model, with other strides and costs: it is an error unless asked for.

    Args:
        network: Takes the weights.
        weights: Tensors by name.
        source: Names the weights in the error.
        resample_stem: Interpolate a stem of another patch size.

    Raises:
        ValueError: The patch sizes differ and ``resample_stem`` is False, or it is True for a network that has no
            patchify stem to resample.
    """
    own_way = getattr(network, 'fit_weights', None)
    if own_way is not None:
        return own_way(weights, source, resample_stem)
    if resample_stem:
        raise ValueError(
            f'resample_stem=True is not available with {type(network).__name__}; leave it out, only the patchify stem '
            'of a Robust-ResNet is resampled'
        )
    return weights


def load_all(network: nn.Module, weights: Mapping[str, torch.Tensor], source: str, name: str) -> None:
    """Load weights that must fit one by one: no name missing or left over, no other shape.

    Args:
        network: Takes the weights.
        weights: Tensors by name.
        source: Names the weights in the error.
        name: Names the network in the error.

    Raises:
        ValueError: Names are missing or left over, or shapes differ.
    """
    own = network.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unexpected = sorted(weights.keys() - own.keys())
    shapes = [
        f'{k} is {tuple(weights[k].shape)} and should be {tuple(own[k].shape)}'
        for k in own
        if k in weights and own[k].shape != weights[k].shape
    ]
    if missing or unexpected or shapes:
        problems = [f'{len(missing)} missing ({_first(missing)})'] if missing else []
        problems += [f'{len(unexpected)} unexpected ({_first(unexpected)})'] if unexpected else []
        problems += [f'{len(shapes)} of another shape ({_first(shapes)})'] if shapes else []
        raise ValueError(f'{source} does not fit {name}: {"; ".join(problems)}; name the model it was saved from')
    network.load_state_dict(weights)


def _first(names: list[str], count: int = 3) -> str:
    return ', '.join(names[:count]) + (', …' if len(names) > count else '')
