"""A model in timm's Hugging Face folder: ``config.json``, ``model.safetensors``, ``README.md``.

``timm.create_model('local-dir:FOLDER', pretrained=True)`` reads such a folder. A folder is somebody else's word:
nothing that it says is followed out of it, and every value is checked before a model is built by it.
"""

import json
import os
from pathlib import Path

from backbones.hub.config import record_of
from backbones.record import ModelRecord
from backbones.weights.checkpoint_file import ENDINGS

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
    record = record_of(read_config(folder), str(folder / CONFIG))
    return record, _weights(folder)


def read_config(folder: Path) -> dict:
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
