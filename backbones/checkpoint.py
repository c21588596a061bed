"""Models on disk: a plain state dict, and beside it a `ModelRecord` with the name and arguments of the model.

``student_best.pth`` holds tensors only and loads with ``timm.create_model(name, checkpoint_path=…)``. With the record
``student_best.json`` beside it, `build_model` needs the path alone.
"""

import difflib
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import nn

from backbones import own
from backbones.checkpoint_file import read_checkpoint
from backbones.files import atomic_write
from backbones.record import ModelRecord
from backbones.weight_names import find_weights, first_of, unwrap_names


def save_model(path: str | os.PathLike, model: nn.Module, record: ModelRecord) -> None:
    """Write the weights of a model, and the record of the model beside them.

    Args:
        path: Path of the weights, see `write_weights`.
        model: A timm model.
        record: Record of the model; the hash of the weights is added.
    """
    weights = model.state_dict()
    write_weights(path, weights)
    replace(record, weights_sha256=weights_sha256(weights)).write(path)


def write_weights(path: str | os.PathLike, weights: Mapping[str, torch.Tensor]) -> None:
    """Write tensors by name, in one piece.

    Args:
        path: The file: in the format of safetensors if its name ends so, otherwise in that of ``torch.save``.
        weights: The tensors.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_write(path) as temporary:
        if Path(path).suffix != '.safetensors':
            torch.save(plain, temporary)
            return
        # Tensors that share their memory, as tied weights do, are written each for itself. Python writes the bytes,
        # because a full disk is an OSError then.
        seen: set[int] = set()
        for name, tensor in plain.items():
            if tensor.untyped_storage().data_ptr() in seen:
                plain[name] = tensor.clone()
            seen.add(tensor.untyped_storage().data_ptr())
        temporary.write_bytes(safetensors.torch.save(plain, metadata={'format': 'pt'}))


def read_weights(path: str | os.PathLike, prefix: str = '') -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint of timm's, of this project, of the official RobustCNN code, of mmengine or Lightning.

    Args:
        path: A file that `read_checkpoint` reads: a state dict, or a dict that holds one under one of ``CONTAINERS``.
        prefix: Take the tensors whose names begin with this, and leave the prefix out of their names.

    Returns:
        Tensors by name, without DDP's ``module.`` before the names, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds objects besides plain values and tensors, holds no tensors, or is damaged; or no
            name begins with the prefix.
    """
    source = f"checkpoint '{path}'"
    weights = _with_prefix(find_weights(read_checkpoint(path), source), prefix, source)
    return dict(weights) if prefix else {k.removeprefix('module.'): v for k, v in weights.items()}


def read_weights_for(
    network: nn.Module, path: str | os.PathLike, prefix: str | None = None
) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors of a checkpoint under the names that a network has.

    Args:
        network: Will take the weights.
        path: A file that `read_checkpoint` reads.
        prefix: As `read_weights` takes it; None finds out, see `unwrap_names`.

    Returns:
        The tensors, and words for an error that name the file and what was taken off its names.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As `read_weights`, `unwrap_names` and `check_finite`; or the record beside the file is one of other
            weights.
    """
    source = f"checkpoint '{path}'"
    found = find_weights(read_checkpoint(path), source)
    record = ModelRecord.read(path)
    if record is not None and record.weights_sha256 not in (None, weights_sha256(found)):
        raise ValueError(
            f"{source} has other weights than those that '{ModelRecord.path_beside(path)}' describes; "
            'copy both again, or take the record away and name the model'
        )
    weights, removed = unwrap_names(_with_prefix(found, prefix, source), network.state_dict(), source)
    check_finite(weights, network, source)
    return weights, f'{source} (its names without {removed})' if removed else source


def check_finite(weights: Mapping[str, torch.Tensor], network: nn.Module, source: str) -> None:
    """Check that weights are numbers. Of buffers, masks may be infinite.

    Raises:
        ValueError: A tensor has NaN, or a parameter an infinite value.
    """
    parameters = {name for name, _ in network.named_parameters()}
    for name, value in weights.items():
        if value.is_floating_point():
            bad = ~value.isfinite() if name in parameters else value.isnan()
            if bad.any():
                raise ValueError(
                    f'{source} has NaN or infinite values: {int(bad.sum())} of {value.numel()} in {name}; '
                    'take a checkpoint from before its training went wrong'
                )


def _with_prefix(weights: Mapping[str, torch.Tensor], prefix: str | None, source: str) -> Mapping[str, torch.Tensor]:
    """The tensors whose names begin with a prefix, without the prefix."""
    if not prefix:
        return weights
    weights = {k.removeprefix('module.'): v for k, v in weights.items()}
    chosen = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    if weights and not chosen:
        there = sorted({k.partition('.')[0] + '.' for k in weights})
        raise ValueError(f"{source} has no name that begins with '{prefix}'; its names begin with {first_of(there)}")
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
    if own.is_own(name):
        own.find(name)
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
    if own.is_own(model):
        kept = own.find(str(model))
        return replace(record or ModelRecord(''), model=own.class_name(kept.network), classes=kept.classes)
    if record is None:
        if model is None:
            raise ValueError(
                "no model is given; give timm's name, or a checkpoint with a record (.json) beside it"
                if checkpoint is None
                else unnamed(checkpoint)
            )
        return ModelRecord(check_model_name(model), model_kwargs)
    if model not in (None, record.model):
        check_model_name(model)
        raise ValueError(f"checkpoint '{checkpoint}' holds {record.model} and not {model}; change either")
    return replace(record, model=check_model_name(record.model), model_kwargs={**record.model_kwargs, **model_kwargs})


def unnamed(checkpoint: str | os.PathLike) -> str:
    """The error about a checkpoint without a record, which says how to name its model."""
    beside = ModelRecord.path_beside(checkpoint)
    hub = Path(checkpoint).parent / 'config.json'
    return (
        f"no model is given, and checkpoint '{checkpoint}' has no record '{beside.name}' beside it; in a config, give "
        "model='NAME' (timm's name) and its arguments beside the checkpoint; for a command, write "
        f'{{"model": "NAME", "model_kwargs": {{"num_classes": …}}}} to \'{beside}\''
        + (f", or give 'local-dir:{hub.parent}' in place of the file" if hub.is_file() else '')
    )


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
    network: Any
    try:
        if own.is_own(model):
            network = own.find(str(model)).network
        else:
            network = timm.create_model(record.model, pretrained=pretrained, **record.model_kwargs)
    except TypeError as error:
        refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if refused is None or refused[1] not in record.model_kwargs:
            raise
        where = (
            f", which the record beside '{checkpoint}' names" if checkpoint and refused[1] not in model_kwargs else ''
        )
        raise ValueError(f"{record.model} takes no argument '{refused[1]}'{where}; drop or correct it") from None
    if checkpoint is not None:
        count = getattr(network, 'num_classes', None)
        if record.classes and 'num_classes' not in model_kwargs and count not in (None, len(record.classes)):
            raise ValueError(
                f"'{ModelRecord.path_beside(checkpoint)}' names {len(record.classes)} classes, and its {record.model} "
                f'has {count}; correct classes or model_kwargs.num_classes'
            )
        weights, source = read_weights_for(network, checkpoint)
        load_all(network, fit_weights(network, weights, source, resample_stem), source, record.model)
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
        problems = [f'{len(missing)} missing ({first_of(missing)})'] if missing else []
        problems += [f'{len(unexpected)} unexpected ({first_of(unexpected)})'] if unexpected else []
        problems += [f'{len(shapes)} of another shape ({first_of(shapes)})'] if shapes else []
        classes = None if missing or unexpected else other_num_classes(network, weights)
        way_out = f'give num_classes={classes}' if classes is not None else 'name the model it was saved from'
        raise ValueError(f'{source} does not fit {name}: {"; ".join(problems)}; {way_out}')
    network.load_state_dict(weights)


def other_num_classes(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> int | None:
    """The number of classes of weights that differ from a network in nothing else; None if other things differ."""
    config: Any = getattr(network, 'pretrained_cfg', None) or {}
    classifier = config.get('classifier') or ()
    heads = tuple(f'{one}.' for one in ((classifier,) if isinstance(classifier, str) else classifier))
    differ = {k: weights[k] for k, v in network.state_dict().items() if k in weights and v.shape != weights[k].shape}
    counts = {v.shape[0] for v in differ.values() if v.dim()}
    return counts.pop() if len(counts) == 1 and all(k.startswith(heads) for k in differ) else None
