"""A model in timm's Hugging Face folder: ``config.json``, ``model.safetensors``, ``README.md``.

``timm.create_model('local-dir:FOLDER', pretrained=True)`` reads such a folder. A folder is somebody else's word:
nothing that it says is followed out of it, and every value is checked before a model is built by it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

from backbones.checkpoint import weights_sha256, write_weights
from backbones.checkpoint_file import ENDINGS
from backbones.files import atomic_folder
from backbones.hub_config import OWN_KEY, SHOWN, config_of, facts_of, record_of
from backbones.record import ModelRecord

CONFIG = 'config.json'
WEIGHTS = 'model.safetensors'
CARD = 'README.md'
WEIGHTS_NAMES = (WEIGHTS, 'pytorch_model.bin', 'pytorch_model.pth', 'model.pth')
"""Names of the file of weights, in the order in which timm looks for them."""

MOST_BYTES = 16 * 2**20
"""The most that a ``config.json`` may have; the names of ImageNet-21k's classes are 2 MB."""


def read_folder(path: str | os.PathLike) -> tuple[ModelRecord, Path | None]:
    """What a folder says about its model, and the file of its weights.

    Args:
        path: A folder that timm, ``robust-backbones save`` or the Hugging Face hub's client wrote.

    Returns:
        The record, whose ``model`` is in timm's registry, and whose ``model_kwargs`` build the model of the weights by
        ``timm.create_model``; and the file, or None if the folder has no weights. ``weights_sha256`` is what the folder
        claims, if it does: who loads the weights compares it.

    Raises:
        FileNotFoundError: There is no such folder, or it has no ``config.json``.
        ValueError: ``config.json`` is too large or no JSON, a value in it is of another kind than its name says, names
            something outside of the folder, or the architecture is unknown; or a file is a link out of the folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"folder '{folder}' does not exist; correct the path")
    record = record_of(_read_config(folder), str(folder / CONFIG))
    return record, _weights(folder)


def facts_of_source(source: str, network: nn.Module) -> dict[str, Any]:
    """What is known of a model's weights by where they come from, see `backbones.hub_config.config_of`.

    Args:
        source: What `backbones.load` has taken.
        network: What it has made of it.
    """
    folder, name = Path(source.removeprefix('local-dir:')), source.partition('.')[0]
    if folder.is_dir():
        return facts_of(_read_config(folder))
    if source.startswith('hf-hub:'):
        cfg: Any = network.pretrained_cfg
        return facts_of(cfg)
    pretrained_cfg = timm.get_pretrained_cfg(source) if timm.is_model(name) and not folder.exists() else None
    return facts_of(pretrained_cfg.to_dict()) if pretrained_cfg is not None else {}


def write_folder(
    path: str | os.PathLike,
    network: nn.Module,
    record: ModelRecord,
    card: str,
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a folder that timm reads, once timm has read it and got the same logits, bit for bit.

    Args:
        path: The folder, which is made.
        network: A timm model in eval mode, on the CPU.
        record: Its record.
        card: Content of ``README.md``.
        facts: What else is known of the weights, see `backbones.hub_config.config_of`.
        overwrite: Whether to replace a folder that this function has written.

    Raises:
        OSError: The folder is there, or cannot be written.
        ValueError: timm does not make the same model of what was written; nothing is left then.
    """
    check_can_make(path, overwrite)
    record = replace(record, weights_sha256=weights_sha256(network.state_dict()))
    config = config_of(network, record, facts)
    with atomic_folder(path) as folder:
        write_weights(folder / WEIGHTS, network.state_dict())
        (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')
        (folder / CARD).write_text(card, encoding='utf-8')
        difference = _difference(folder, network, record)
        if difference:
            raise ValueError(f"'{record.model}' cannot be saved: timm makes another model of it ({difference})")


def check_can_make(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Check that a folder for a model can be made, or may be replaced.

    Raises:
        OSError: There is something else.
    """
    folder = Path(path)
    if folder.resolve() == Path.cwd():
        raise FileExistsError(f"folder '{folder}' is the current one; name a new one for the model")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileExistsError(f"'{folder}' is there, and no folder; name a new one for the model")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not _is_own(folder):
        raise FileExistsError(f"folder '{folder}' has other files than a saved model; name a new one")
    if not overwrite:
        raise FileExistsError(f"folder '{folder}' holds a model; name a new one, or replace it with --overwrite")


def _is_own(folder: Path) -> bool:
    """Whether a folder has nothing but what `write_folder` writes."""
    if not {one.name for one in folder.iterdir()} <= {CONFIG, WEIGHTS, CARD}:
        return False
    try:
        return OWN_KEY in _read_config(folder)
    except (ValueError, OSError):
        return False


@torch.inference_mode()
def _difference(folder: Path, network: nn.Module, record: ModelRecord) -> str:
    """How the model that timm makes of a folder differs from the one that was written; empty if it does not."""
    with torch.random.fork_rng(devices=[]):
        try:
            again: Any = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
        except Exception as error:  # What a wrong argument raises is the constructor's choice.
            return ' '.join(f'{type(error).__name__}: {error}'.split())
        images = torch.rand(2, *(record.input_size or again.pretrained_cfg['input_size']))
    if weights_sha256(again.state_dict()) != record.weights_sha256:
        return 'other weights'
    if not torch.equal(_bits(network(images)), _bits(again(images))):
        return 'other logits'
    found = read_folder(folder)[0]
    shown = resolve_model_data_config(again)
    told = {name: getattr(record, name) for name in SHOWN if getattr(record, name) is not None}
    for name, value in told.items():
        if list(_sequence(shown[name])) != _sequence(value) or getattr(found, name) != value:
            return f'{name} {shown[name]} in place of {value}'
    for name in ('classes', 'teacher', 'epoch', 'seed', 'scores'):
        if getattr(found, name) != getattr(record, name):
            return f'{name} {getattr(found, name)} in place of {getattr(record, name)}'
    return ''


def _sequence(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _bits(logits: torch.Tensor) -> torch.Tensor:
    """Logits as whole numbers, so that NaN equals itself."""
    return logits.contiguous().view(torch.int32)


def _read_config(folder: Path) -> dict:
    """The content of ``config.json``."""
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"folder '{folder}' has no {CONFIG} as timm's models have; give the folder with {CONFIG} and {WEIGHTS}"
        )
    _check_inside(path)
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"'{path}' has {path.stat().st_size} bytes; a {CONFIG} has at most {MOST_BYTES}")
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is not valid JSON ({error}); save or download the model again") from None
    if not isinstance(config, dict) or 'architecture' not in config:
        other = isinstance(config, dict) and config.get('model_type')
        found = f'describes a {other} of transformers' if other else 'names no architecture'
        raise ValueError(f"'{path}' {found}; give a folder that timm wrote, with an architecture of timm's")
    return config


def _check_inside(path: Path) -> None:
    """Check that a file is in its folder, or where the hub's client keeps what a folder of its cache shows."""
    folder = path.parent.resolve()
    where = path.resolve().parent
    if where != folder and where != folder.parent.parent / 'blobs':
        raise ValueError(f"'{path}' is a link out of its folder, to '{path.resolve()}'; copy the file itself")


def _weights(folder: Path) -> Path | None:
    """The file of weights that timm takes, or None if there is none."""
    found = next((folder / name for name in WEIGHTS_NAMES if (folder / name).exists()), None)
    if found is None:
        index = folder / f'{WEIGHTS}.index.json'
        if index.exists():
            raise ValueError(f"'{index}' splits the weights over several files; save them as one file, {WEIGHTS}")
        others = sorted(one for one in folder.iterdir() if one.suffix in ENDINGS)
        if len(others) > 1:
            names = ', '.join(one.name for one in others[:3])
            raise ValueError(f"folder '{folder}' has several files of weights ({names}); call the one {WEIGHTS}")
        found = others[0] if others else None
    if found is not None:
        _check_inside(found)
    return found
