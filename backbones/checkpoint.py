"""Models on disk: a plain state dict, and beside it a `ModelRecord` with the name and arguments of the model.

``student_best.pth`` holds tensors only and loads with ``timm.create_model(name, checkpoint_path=…)``. With the record
``student_best.json`` beside it, `build_model` needs the path alone.
"""

import contextlib
import hashlib
import io
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import timm
import torch
from torch import nn

from backbones.files import atomic_write
from backbones.hub.folder import CONFIG, WEIGHTS
from backbones.record import ModelRecord
from backbones.sources import own
from backbones.sources.found import Found, WeightsFile, find_model
from backbones.sources.source import first_line, hub_client
from backbones.weights.checkpoint_file import read_checkpoint
from backbones.weights.fit import check_finite, fit_weights, load_all
from backbones.weights.names import find_weights, first_of, unwrap_names
from backbones.weights.openmmlab_names import HEADS, classifier_names, find_head, timms_names
from backbones.weights.torchvision_files import map_names, torchvision_name


def save_model(path: str | os.PathLike, model: nn.Module, record: ModelRecord) -> None:
    """Write the weights of a model, and the record of the model beside them.

    Args:
        path: Path of the weights, see `write_weights`.
        model: A timm model.
        record: Record of the model; the hash of the weights is added.
    """
    save_weights(path, model.state_dict(), record)


def save_weights(path: str | os.PathLike, weights: Mapping[str, torch.Tensor], record: ModelRecord) -> None:
    """Write weights, and the record of their model beside them.

    Args:
        path: Path of the weights, see `write_weights`.
        weights: All of a timm model.
        record: Record of the model; the hash of the weights is added.
    """
    write_weights(path, weights)
    replace(record, weights_sha256=weights_sha256(weights)).write(path)


def write_weights(path: str | os.PathLike, weights: Mapping[str, torch.Tensor]) -> None:
    """Write tensors by name, in one piece.

    Args:
        path: The file: in the format of safetensors if its name ends so, otherwise in that of ``torch.save``.
        weights: The tensors.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    # Python writes the bytes, because a full disk is an OSError then.
    with atomic_write(path) as temporary:
        if Path(path).suffix != '.safetensors':
            buffer = io.BytesIO()
            torch.save(plain, buffer)
            temporary.write_bytes(buffer.getbuffer())
            return
        # Tensors that share their memory, as tied weights do, are written each for itself.
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


logger = logging.getLogger(__name__)


class NamedWeights(NamedTuple):
    """Tensors under the names of a network.

    Attributes:
        weights: By name.
        source: Words for an error, which name the file and what was taken off its names.
        notes: What was done and is worth a line in a log.
    """

    weights: dict[str, torch.Tensor]
    source: str
    notes: list[str]


def read_weights_for(
    network: nn.Module, checkpoint: str | os.PathLike | Found, prefix: str | None = None
) -> NamedWeights:
    """The tensors of a checkpoint under the names that a network has.

    Args:
        network: Will take the weights.
        checkpoint: A file that `read_checkpoint` reads, or what `find_model` has found.
        prefix: As `read_weights` takes it; None finds out, see `unwrap_names`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: As `read_weights`, `unwrap_names` and `check_finite`; or the record beside the file is one of other
            weights; or it is torchvision's and timm's model would compute something else with it.
    """
    found = checkpoint if isinstance(checkpoint, Found) else None
    file = (found.file if found is not None else None) or WeightsFile(Path(str(checkpoint)))
    record = found.record if found is not None else ModelRecord.read(file.path)
    everything = find_weights(file.content, file.words)
    if record is not None and record.weights_sha256 not in (None, weights_sha256(everything)):
        beside = ModelRecord.path_beside(file.path)
        beside = beside if beside.is_file() else file.path.parent / CONFIG
        raise ValueError(
            f"{file.words} has other weights than those that '{beside}' describes; "
            'copy both again, or take the record away and name the model'
        )
    own = network.state_dict()
    weights, removed = unwrap_names(_with_prefix(everything, prefix, file.words), own, file.words)
    source = f'{file.words} (its names without {removed})' if removed else file.words
    notes = [f'{file.words}: {removed} was taken off the names of its tensors'] if removed else []
    if own.keys() != weights.keys():
        weights = timms_names(weights, own)
        if own.keys() - weights.keys() == set(classifier_names(network)):
            weights |= find_head(everything, network)
            if any(name.startswith(HEADS) for name in everything) and own.keys() != weights.keys():
                source += f", whose classifier stands in another place than {type(network).__name__}'s,"
    if found is not None and own.keys() != weights.keys():
        mapped = _from_torchvision(everything, found)
        if mapped:
            weights, source = mapped, file.words
            notes = [f"{file.words} is torchvision's: its tensors have timm's names now, and give the same logits"]
    elif found is not None and found.is_alias and found.record.model_kwargs and not notes:
        raise ValueError(f"{file.words} has timm's own names; give '{found.record.model}@{file.path}'")
    check_finite(weights, network, source)
    return NamedWeights(weights, source, notes)


def _from_torchvision(weights: Mapping[str, torch.Tensor], found: Found) -> dict[str, torch.Tensor]:
    """The tensors of torchvision's model under timm's names, or nothing if they are not of that model."""
    record, file = found.record, found.file
    name = torchvision_name(record.model)
    if name is None or file is None:
        return {}

    def build(num_classes: int) -> nn.Module:
        return timm.create_model(record.model, **{**record.model_kwargs, 'num_classes': num_classes})

    return map_names({key.removeprefix('module.'): value for key, value in weights.items()}, name, build, file.words)


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


def resolve_model(
    model: str | None = None,
    checkpoint: str | os.PathLike | None = None,
    pretrained: bool = False,
    resample_stem: bool = False,
    **model_kwargs,
) -> ModelRecord:
    """Describe the model that `build_model` makes of the same arguments, without building it.

    Args:
        model: As `find_model` takes it.
        checkpoint: As `find_model` takes it.
        pretrained: No part of the description.
        resample_stem: No part of the description.
        **model_kwargs: Arguments of ``timm.create_model``; they win over the record's.

    Returns:
        The record beside the checkpoint with the name and all arguments of the model, or a record of these alone.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: No name is given or found, it is unknown, or the checkpoint holds another model.
    """
    if own.is_own(model):
        kept = own.find(str(model))
        return ModelRecord(own.class_name(kept.network), classes=kept.classes)
    return find_model(model, checkpoint, **model_kwargs).record


def build_model(
    model: str | None = None,
    checkpoint: str | os.PathLike | None = None,
    pretrained: bool = False,
    resample_stem: bool = False,
    new_head: bool = False,
    **model_kwargs,
) -> nn.Module:
    """Build a timm model, from a name, a checkpoint, or both; see `backbones.sources` for what a checkpoint can be.

    Args:
        model: timm's name; may be left out for a checkpoint that names its model. Or the name of a network that
            `backbones.sources.own` keeps, which is returned as it is.
        checkpoint: Weights to load, all of them.
        pretrained: Load timm's pretrained weights instead.
        resample_stem: Interpolate the patchify stem of the checkpoint to the ``patch_size`` of the model; otherwise a
            stem of another patch size is an error.
        new_head: Let a checkpoint without a classifier, such as a detector's, leave the model its own, random one.
        **model_kwargs: Arguments of ``timm.create_model``; they win over the record's.

    Returns:
        The model. What was done to the weights is logged.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: The name is unknown, or the checkpoint does not fit the model.
    """
    if own.is_own(model):
        return own.find(str(model)).network
    found = find_model(model, checkpoint, pretrained, **model_kwargs)
    if found.file is None and found.source.path is not None and (checkpoint is not None or pretrained):
        raise ValueError(without_weights(found))
    network, notes = build_found(found, resample_stem, new_head)
    for note in notes:
        logger.warning(note)
    return network


def without_weights(found: Found) -> str:
    """The error about a model that has no weights where some are needed."""
    text, name = found.source.text, found.record.model
    if found.source.path is not None or found.source.repo is not None:
        return f"'{text}' has no file of weights; put {WEIGHTS} into the folder, or give '{name}@FILE'"
    return f"timm has no weights of '{name}'; give '{name}@FILE', or the folder of a model with weights"


def build_found(
    found: Found, resample_stem: bool = False, new_head: bool = False, names_are_given: bool = False
) -> tuple[nn.Module, list[str]]:
    """Build the network of a model that `find_model` has found, and load its weights.

    Args:
        found: The model.
        resample_stem: See `build_model`.
        new_head: Let a checkpoint without a classifier leave the network its own, random one.
        names_are_given: Whether the caller has named the classes, and not what stands beside the weights.

    Returns:
        The network, and what was done to the weights and is worth a line in a log.

    Raises:
        ValueError: The model does not take an argument, or the weights do not fit it or cannot be fetched.
    """
    record = found.record
    network = _create(found)
    if found.file is None:
        return network, list(found.notes)
    count = getattr(network, 'num_classes', None)
    if record.classes and count not in (None, len(record.classes)):
        if names_are_given:
            raise ValueError(
                f'{len(record.classes)} names of classes are given (--class-names, classes=), and {record.model} of '
                f"'{found.source.text}' has {count}; give as many names as it has classes"
            )
        where = ModelRecord.path_beside(found.file.path)
        raise ValueError(
            f"'{where if where.is_file() else found.source.text}' names {len(record.classes)} classes, and its "
            f'{record.model} has {count}; correct classes or model_kwargs.num_classes'
        )
    read = read_weights_for(network, found)
    weights, notes = dict(fit_weights(network, read.weights, read.source, resample_stem)), [*found.notes, *read.notes]
    head = classifier_names(network)
    if new_head and head and not any(name in weights for name in head):
        weights |= {name: value for name, value in network.state_dict().items() if name in head}
        notes.append(f'{read.source} has no classifier; the one of {record.model} starts from random weights')
    load_all(network, weights, read.source, record.model)
    return network, notes


def _create(found: Found) -> nn.Module:
    """Build a network, with timm's weights if it is found so; an error names the argument that is wrong."""
    record = found.record
    try:
        with hub_client() if found.pretrained else contextlib.nullcontext():
            return timm.create_model(record.model, pretrained=found.pretrained, **record.model_kwargs)
    except TypeError as error:
        refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if refused is None or refused[1] not in record.model_kwargs:
            raise _not_built(found, error) from None
        where = f", which stands beside '{found.file.path}' or was given" if found.file is not None else ''
        raise ValueError(f"{record.model} takes no argument '{refused[1]}'{where}; drop or correct it") from None
    # What timm raises for arguments that make no sense, and what its downloads raise, has no common class.
    except Exception as error:
        raise _not_built(found, error) from None


def _not_built(found: Found, error: Exception) -> Exception:
    """The error about a network that timm does not build, or whose weights it does not bring."""
    record = found.record
    if found.pretrained:
        reason = f"timm's weights of '{record.model}' cannot be fetched ({first_line(error)})"
        return ValueError(f"{reason}; check the network, or give '{record.model}@FILE'")
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or not record.model_kwargs:
        return error
    given = ', '.join(f'{key}={value!r}' for key, value in record.model_kwargs.items())
    return ValueError(f'{record.model} cannot be built with {given} ({first_line(error)}); correct the arguments')


def fixed_size(network: nn.Module) -> tuple[int, int] | None:
    """The one input size (height, width) in pixels that a model takes, or None if it takes any."""
    patch_embed: Any = getattr(network, 'patch_embed', None)
    config: Any = getattr(network, 'pretrained_cfg', None) or {}
    if getattr(patch_embed, 'img_size', None):
        size = patch_embed.img_size if getattr(patch_embed, 'strict_img_size', False) else None
    else:
        size = config['input_size'][-2:] if config.get('fixed_input_size') else None
    return tuple(size) if size is not None else None
