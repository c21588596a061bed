"""Models on disk: weights as a plain state dict, and beside them what is needed to build the model again.

``student_best.pth`` holds tensors only and loads with ``timm.create_model(name, checkpoint_path=…)``;
``student_best.json`` holds the name and arguments, so that a path alone is enough here.
"""

import difflib
import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import timm
import torch
from torch import nn

from backbones.files import atomic_write
from backbones.record import ModelRecord

PREFIXES = ('student.', 'backbone.net.', 'backbone.')
"""Under what a model's tensors lie in checkpoints of distillations, detectors and segmenters, and others' detectors."""

CONTAINERS = ('state_dict_ema', 'model_ema', 'state_dict', 'model', 'model_state')
"""Under what a checkpoint holds a state dict. Averaged weights come first, as in ``timm.create_model``."""


class _Inert:
    """What a checkpoint's objects become that are no weights: they take their state and forget it."""

    def __new__(cls, *args):
        return super().__new__(cls)

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


# What timm's and mmengine's training scripts write beside the weights: their arguments and logs. torch's weights-only
# loading knows an allowed object by its name, so these names lead to something that does nothing; the real `getattr`,
# say, stays out of reach.
INERT = [
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
    """Write a model's weights, and the model's record beside them.

    Args:
        path: Where the weights go, ending in ``.pth``.
        model: A timm model.
        record: The model; the hash of the weights is added.
    """
    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    with atomic_write(path) as temporary:
        torch.save(weights, temporary)
    replace(record, weights_sha256=weights_sha256(weights)).write(path)


def read_weights(path: str | os.PathLike, prefix: str | None = '') -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint of timm's, of this project, of the official RobustCNN code or of mmengine.

    Args:
        path: A ``.pth`` or ``.pth.tar`` file: a state dict, or a dict that holds one under one of ``CONTAINERS``.
        prefix: Only tensors whose names begin with this are taken, without it. None takes those under one of
            ``PREFIXES`` if there are such, otherwise all.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds more than plain values and tensors, or no tensors, or is damaged; or no name begins
            with the prefix.
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
    """A hash of names, types, shapes and values, whatever the order and the file format."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_model_name(name: str) -> str:
    """Return a name that timm's registry knows.

    Raises:
        ValueError: It does not; the message has the closest names.
    """
    if timm.is_model(name.split('.')[0]) or name.startswith(('hf-hub:', 'local-dir:')):
        return name
    close = difflib.get_close_matches(name, timm.list_models(), n=4, cutoff=0.5)
    hint = f'did you mean {", ".join(close)}?' if close else 'see timm.list_models()'
    raise ValueError(f"model '{name}' is unknown; {hint}")


def resolve_model(
    model: str | None, checkpoint: str | os.PathLike | None, model_kwargs: Mapping
) -> tuple[str, dict[str, object]]:
    """Complete a model's name and arguments by what stands beside its checkpoint.

    Args:
        model: timm's name, or None to take the record's.
        checkpoint: Path of the weights, or None.
        model_kwargs: Arguments of ``timm.create_model``; they win over the record's.

    Returns:
        The name and all arguments.

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
        return check_model_name(model), dict(model_kwargs)
    if model not in (None, record.model):
        check_model_name(model)
        raise ValueError(f"checkpoint '{checkpoint}' holds {record.model} and not {model}; change either")
    return check_model_name(record.model), {**record.model_kwargs, **model_kwargs}


def build_model(
    model: str | None = None,
    checkpoint: str | os.PathLike | None = None,
    pretrained: bool = False,
    **model_kwargs,
) -> nn.Module:
    """Build a timm model, from a name, a checkpoint of this project, or both.

    Args:
        model: timm's name; may be left out for a checkpoint with a record beside it.
        checkpoint: Weights to load, all of them.
        pretrained: Load timm's pretrained weights instead.
        **model_kwargs: Arguments of ``timm.create_model``; they win over the record's.

    Returns:
        The model.

    Raises:
        ValueError: The name is unknown, or the checkpoint does not fit the model.
    """
    model, model_kwargs = resolve_model(model, checkpoint, model_kwargs)
    network = timm.create_model(model, pretrained=pretrained, **model_kwargs)
    if checkpoint is not None:
        weights = fit_weights(network, read_weights(checkpoint, prefix=None))
        load_all(network, weights, f"checkpoint '{checkpoint}'", model)
    return network


def fixed_size(network: nn.Module) -> tuple[int, int] | None:
    """The one input size (height, width) that a model takes, or None if it takes any."""
    patch_embed = getattr(network, 'patch_embed', None)
    if getattr(patch_embed, 'img_size', None):
        return tuple(patch_embed.img_size) if patch_embed.strict_img_size else None
    config = network.pretrained_cfg
    return tuple(config['input_size'][-2:]) if config.get('fixed_input_size') else None


def fit_weights(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """Weights of a model of other sizes, resampled as the network would have them if it has a way to."""
    return network.fit_weights(weights) if hasattr(network, 'fit_weights') else weights


def load_all(network: nn.Module, weights: Mapping[str, torch.Tensor], what: str, name: str) -> None:
    """Load weights of which every one must fit.

    Args:
        network: Takes the weights.
        weights: Tensors by name.
        what: Names the weights in the error.
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
        raise ValueError(f'{what} does not fit {name}: {"; ".join(problems)}; name the model it was saved from')
    network.load_state_dict(weights)


def _first(names: list[str], count: int = 3) -> str:
    return ', '.join(names[:count]) + (', …' if len(names) > count else '')
