"""Write a model as timm's Hugging Face folder, which `backbones.hub.folder` and timm read."""

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
from backbones.files import atomic_folder
from backbones.hub.config import OWN_KEY, SHOWN, config_of, facts_of
from backbones.hub.folder import CARD, CONFIG, WEIGHTS, read_config, read_folder
from backbones.record import ModelRecord
from backbones.sources.source import Source


def facts_of_source(source: str, file: str | None) -> dict[str, Any]:
    """What is known of a model's weights by where they come from, see `backbones.hub.config.config_of`.

    Args:
        source: What `backbones.load` has taken.
        file: The file of weights that it has found, or None where timm has brought them.
    """
    parsed = Source.parse(source)
    if file is not None:
        is_folder = parsed.repo is not None or (parsed.path is not None and parsed.path.is_dir())
        return facts_of(read_config(Path(file).parent)) if is_folder else {}
    told = timm.get_pretrained_cfg(parsed.model) if parsed.model is not None and timm.is_model(parsed.model) else None
    return facts_of(told.to_dict()) if told is not None else {}


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
        facts: What else is known of the weights, see `backbones.hub.config.config_of`.
        overwrite: Whether to replace a folder that this function has written.

    Raises:
        OSError: The folder is there, or cannot be written.
        ValueError: timm does not make the same model of what was written; nothing is left then.
    """
    check_can_make(path, overwrite)
    record = replace(record, weights_sha256=weights_sha256(network.state_dict()))
    config = config_of(network, record, facts)
    try:
        with atomic_folder(path) as folder:
            write_weights(folder / WEIGHTS, network.state_dict())
            (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')
            (folder / CARD).write_text(card, encoding='utf-8')
            difference = _difference(folder, network, record)
            if difference:
                raise ValueError(f"'{record.model}' cannot be saved: timm makes another model of it ({difference})")
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"model cannot be saved to '{path}' ({reason}); make room, or name another folder") from error


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
        return OWN_KEY in read_config(folder)
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
    for name in ('classes', 'teacher', 'epoch', 'seed', 'seen_kinds', 'scores'):
        if getattr(found, name) != getattr(record, name):
            return f'{name} {getattr(found, name)} in place of {getattr(record, name)}'
    return ''


def _sequence(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _bits(logits: torch.Tensor) -> torch.Tensor:
    """Logits as whole numbers, so that NaN equals itself."""
    return logits.contiguous().view(torch.int32)
