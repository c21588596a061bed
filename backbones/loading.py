"""A model from whatever a user has: one call for every command, config and notebook."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

from backbones.checkpoint import build_found, fixed_size, weights_sha256, without_weights
from backbones.class_names import known_classes
from backbones.record import ModelRecord
from backbones.sources.found import Found, find_model
from backbones.sources.source import Source, split_shown

OWN_SIZE_PX = 224
"""Side of the images of a network of a user's own, if nothing else is said."""


@dataclass
class LoadedModel:
    """A model with all that is needed to use it.

    Attributes:
        network: The model, in eval mode, on the CPU, in float32.
        record: What the network is and is shown. ``input_size``, ``mean``, ``std``, ``crop_pct``, ``crop_mode``,
            ``interpolation`` and ``weights_sha256`` are known; ``classes`` is None if nothing tells their names.
        source: What was asked for, for messages and as the origin of numbers.
        file: Path of the file of weights, or None if timm brings them.
        has_weights: Whether weights were loaded; otherwise they are random.
        notes: What was done to the source and is worth a line in a log, such as a prefix that was taken off names.
    """

    network: Any
    record: ModelRecord
    source: str
    file: str | None = None
    has_weights: bool = True
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, in the order of the logits."""
        return self.record.classes

    @property
    def num_classes(self) -> int:
        """Number of the logits; 0 for a network without a classifier."""
        return self.network.num_classes

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The one input size (height, width) in pixels that the network takes, or None if it takes any."""
        return fixed_size(self.network)

    @property
    def transform(self) -> dict:
        """Arguments of ``timm.data.create_transform`` for evaluation, without mean and standard deviation."""
        record = self.record
        return {
            'input_size': tuple((record.input_size or [])[-2:]),
            'interpolation': record.interpolation,
            'crop_pct': record.crop_pct,
            'crop_mode': record.crop_mode,
        }


def load(
    source: str | os.PathLike | nn.Module,
    *,
    model: str | None = None,
    classes: Sequence[str] | None = None,
    input_size: int | Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    crop_pct: float | None = None,
    crop_mode: str | None = None,
    interpolation: str | None = None,
    require_weights: bool = True,
    **model_kwargs,
) -> LoadedModel:
    """Load a model. What is given wins over what stands beside the weights, and that over timm's configuration.

    Args:
        source: What `backbones.sources` lists: a timm name; ``hf-hub:REPO``; a folder in that hub's layout; a file of
            weights, or ``NAME@FILE`` with the name of its model; or a network of one's own.
        model: timm's name, for a file of weights that nothing names the model of.
        classes: Names of the classes, in the order of the logits.
        input_size: Side of the images in pixels, or height and width, or channels, height and width. A network of one
            size is made to fit, where timm can.
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel, of values in [0, 1].
        crop_pct: The share of the resized image's side that is shown.
        crop_mode: How the rest is cut off, as timm's.
        interpolation: How images are resized, as timm's.
        require_weights: Whether random weights are an error.
        **model_kwargs: Further arguments of ``timm.create_model``, such as ``num_classes``.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The name is unknown, the weights do not fit it, or an argument is out of range.
    """
    arguments = model_kwargs | {
        'classes': classes,
        'input_size': input_size,
        'mean': mean,
        'std': std,
        'crop_pct': crop_pct,
        'crop_mode': crop_mode,
        'interpolation': interpolation,
    }
    if isinstance(source, nn.Module):
        return _own_network(source, arguments)
    parsed = Source.parse(source)
    if parsed.path is not None or parsed.repo is not None:
        return load_configured(model, source, require_weights=require_weights, **arguments)
    if model is not None and model != parsed.model:
        raise ValueError(
            f"'{source}' is the name of a model already; drop the other name, {model}, or give '{model}@FILE'"
        )
    return load_configured(str(source), pretrained=True, require_weights=require_weights, **arguments)


def load_configured(
    model: str | nn.Module | None = None,
    checkpoint: str | os.PathLike | None = None,
    pretrained: bool = False,
    resample_stem: bool = False,
    require_weights: bool = True,
    **arguments,
) -> LoadedModel:
    """Load a model that is described by the arguments of `build_model`, as those of a config's teacher are.

    Args:
        model: timm's name, or another source.
        checkpoint: Weights, see `find_model`.
        pretrained: Whether timm's weights are wanted.
        resample_stem: See `build_model`.
        require_weights: Whether random weights are an error.
        **arguments: As `find_model` takes them.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The model cannot be loaded, or has random weights.
    """
    if isinstance(model, nn.Module):
        return _own_network(model, arguments)
    found = find_model(model, checkpoint, pretrained, **arguments)
    found = _with_known_weights(found, require_weights)
    if found.is_bgr:
        raise ValueError(
            f"checkpoint '{found.source.path}' is of a network that takes images in the order blue, green, red, and "
            'is shown none here; take one that was trained on RGB'
        )
    network: Any
    network, notes = build_found(found, resample_stem, names_are_given=arguments.get('classes') is not None)
    network.eval()
    has_weights = found.pretrained or found.file is not None
    if not has_weights:
        notes.append(f"'{found.source.text}' has no weights: those of the network are random")
    _, shown = split_shown({**arguments, **found.source.arguments})
    # Of the weights as they are stored: another size resamples the position embeddings.
    weights = network.state_dict()
    # On the meta device, where costs are counted, there is nothing to hash.
    sha256 = None if any(one.is_meta for one in weights.values()) else weights_sha256(weights)
    if 'input_size' in shown:
        _resize(network, found)
    record = replace(_completed(network, found, shown), weights_sha256=sha256)
    file = str(found.file.path) if found.file is not None else None
    return LoadedModel(network, record, found.source.text, file, has_weights, tuple(notes))


def _with_known_weights(found: Found, require_weights: bool) -> Found:
    """Check that there are weights, if they are required, and have timm bring them only if it has some."""
    if found.file is not None:
        return found
    config: Any = (
        timm.get_pretrained_cfg(found.record.model) if found.pretrained and found.source.path is None else None
    )
    has_weights = config is not None and found.source.repo is None and config.has_weights
    if require_weights and not has_weights:
        raise ValueError(without_weights(found))
    count = found.record.model_kwargs.get('num_classes')
    if require_weights and count not in (None, 0, config.num_classes):
        raise ValueError(
            f"timm's weights of '{found.record.model}' are of {config.num_classes} classes and not of {count}; "
            'leave num_classes out, or give a checkpoint of as many classes'
        )
    return replace(found, pretrained=bool(has_weights))


def _resize(network: Any, found: Found) -> None:
    """Have a network of one size take the size that was asked for."""
    height, width = (found.record.input_size or [])[-2:]
    fixed = fixed_size(network)
    if fixed in (None, (height, width)):
        return
    if hasattr(network, 'set_input_size'):
        network.set_input_size(img_size=(height, width))
    if fixed_size(network) not in (None, (height, width)):
        raise ValueError(
            f"'{found.source.text}' takes images of {fixed[0]}x{fixed[1]} pixels only; leave out the input size for it"
        )


def _completed(network: Any, found: Found, shown: dict) -> ModelRecord:
    """The record with all that says what the network is shown."""
    record, config = found.record, resolve_model_data_config(network)
    told = network.pretrained_cfg if found.file is None and found.pretrained else {}
    classes = known_classes(record.classes, told, network.num_classes)
    if 'classes' in shown and classes is None:
        raise ValueError(
            f"{len(shown['classes'])} names of classes are given, and '{found.source.text}' has {network.num_classes}; "
            'give one for each, in the order of the logits'
        )
    trained_size = record.input_size if 'input_size' not in shown else None
    size = record.input_size or [3, *(fixed_size(network) or config['input_size'][-2:])]
    return replace(
        record,
        classes=classes,
        input_size=list(size),
        mean=list(record.mean or config['mean']),
        std=list(record.std or config['std']),
        # A model trained at its own size is shown the whole image at that size; another what it was tested with.
        crop_pct=record.crop_pct or (1.0 if trained_size else config['crop_pct']),
        crop_mode=record.crop_mode or config['crop_mode'],
        interpolation=record.interpolation or config['interpolation'],
    )


@torch.no_grad()
def _own_network(network: Any, arguments: dict) -> LoadedModel:
    """A network of a user's own, for which what timm's configuration would say is given."""
    kwargs, shown = split_shown(arguments)
    name = type(network).__name__
    if kwargs:
        raise ValueError(f'{name} is built already and takes no {", ".join(kwargs)}; drop them')
    config = getattr(network, 'pretrained_cfg', None) or {}
    missing = [key for key in ('mean', 'std') if key not in shown and key not in config]
    if missing:
        raise ValueError(f'nothing tells how images are normalised for {name}; give {" and ".join(missing)}')
    size = shown.pop('input_size', config.get('input_size', OWN_SIZE_PX))
    size = [3, size, size] if isinstance(size, int) else [3, *size][-3:]
    was = {key: config[key] for key in ('mean', 'std', 'crop_pct', 'crop_mode', 'interpolation') if key in config}
    defaults = {'crop_pct': 1.0, 'crop_mode': 'center', 'interpolation': 'bicubic'}
    plain = {key: list(one) if isinstance(one, (list, tuple)) else one for key, one in {**was, **shown}.items()}
    record = ModelRecord.from_json({**defaults, **plain, 'model': name, 'input_size': size}, name)
    network.eval()
    if not isinstance(getattr(network, 'num_classes', None), int):
        parameter = next(network.parameters(), torch.zeros(()))
        logits = network(torch.zeros(2, *size, device=parameter.device, dtype=parameter.dtype))
        if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
            raise ValueError(f'{name} returns no logits [B, K]; wrap it in a module that does')
        network.num_classes = logits.shape[1]
    if record.classes is not None and len(record.classes) != network.num_classes:
        raise ValueError(f'{len(record.classes)} names of classes are given, and {name} has {network.num_classes}')
    record = replace(record, weights_sha256=weights_sha256(network.state_dict()))
    return LoadedModel(network, record, name)
