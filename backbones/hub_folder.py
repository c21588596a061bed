"""A model in timm's Hugging Face folder: ``config.json``, ``model.safetensors``, ``README.md``.

``timm.create_model('local-dir:FOLDER', pretrained=True)`` reads such a folder. A folder is somebody else's word:
nothing that it says is followed out of it, and every value is checked before a model is built by it.
"""

import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg

from backbones.checkpoint_file import ENDINGS
from backbones.class_names import known_classes
from backbones.record import ModelRecord
from backbones.weight_names import first_of

CONFIG = 'config.json'
WEIGHTS = 'model.safetensors'
WEIGHTS_NAMES = (WEIGHTS, 'pytorch_model.bin', 'pytorch_model.pth', 'model.pth')
"""Names of the file of weights, in the order in which timm looks for them."""

OWN_KEY = 'robust_backbones'
"""What ``config.json`` holds beyond timm's: the fields of a `ModelRecord` that timm has no place for."""

OWN_FIELDS = ('teacher', 'epoch', 'seed', 'weights_sha256')

MOST_BYTES = 16 * 2**20
"""The most that a ``config.json`` may have; the names of ImageNet-21k's classes are 2 MB."""

MOST_CLASSES = 1_000_000
FACTORY_ARGUMENTS = {
    'cache_dir', 'checkpoint_path', 'device', 'dtype', 'exportable', 'feature_cfg', 'feature_cls', 'features_only',
    'kwargs_filter', 'model_cfg', 'model_cls', 'model_name', 'no_jit', 'pretrained', 'pretrained_cfg',
    'pretrained_cfg_overlay', 'pretrained_filter_fn', 'pretrained_model_args', 'pretrained_strict', 'scriptable',
    'variant',
}  # fmt: skip
"""Arguments of ``timm.create_model`` and of what it calls that are no part of an architecture."""

SOURCES = ('url', 'file', 'hf_hub_id', 'hf_hub_filename', 'state_dict', 'source')
"""Fields of timm's ``pretrained_cfg`` that say where weights come from. The folder's own weights are taken."""


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
    source = f"'{folder / CONFIG}'"
    config = _read_config(folder)
    pretrained_cfg = config.get('pretrained_cfg', config)
    _expect(isinstance(pretrained_cfg, dict), source, 'pretrained_cfg', pretrained_cfg, 'an object')
    _check_sources(pretrained_cfg, source)
    architecture = _architecture(config.get('architecture'), source)
    model_args = check_model_args(config.get('model_args') or {}, source)
    shown = _shown(pretrained_cfg, model_args, source)
    kwargs = _model_kwargs(config, pretrained_cfg, model_args, shown['input_size'], source)
    names = _label_names(config, pretrained_cfg, source)
    own = config.get(OWN_KEY) or {}
    _expect(isinstance(own, dict), source, OWN_KEY, own, 'an object')
    record = ModelRecord.from_json(
        {**own, 'model': architecture, 'model_kwargs': kwargs, 'classes': None, **shown}, str(folder / CONFIG)
    )
    classes = known_classes(None, {'label_names': names}, kwargs['num_classes'])
    return ModelRecord(**{**vars(record), 'classes': classes}), _weights(folder)


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


def _check_sources(pretrained_cfg: Mapping, source: str) -> None:
    """Check that nothing leads out of the folder. Addresses on the web say where weights once came from."""
    for name in SOURCES:
        value = pretrained_cfg.get(name)
        if value in (None, ''):
            continue
        if name == 'file':
            is_fine = isinstance(value, str) and not re.search(r'[/\\:]|^\.\.?$|^~', value)
            expected = 'the name of a file in the folder, or nothing'
        elif name == 'url':
            is_fine = isinstance(value, str) and value.startswith(('https://', 'http://'))
            expected = 'an address on the web, which is not followed, or nothing'
        else:
            is_fine = name != 'state_dict' and isinstance(value, str) and bool(re.fullmatch(r'[\w./@-]+', value))
            expected = 'nothing' if name == 'state_dict' else 'a name, which is not followed, or nothing'
        _expect(is_fine, source, f'pretrained_cfg.{name}', value, expected)


def _architecture(name: object, source: str) -> str:
    """The name of the architecture, which timm's registry has."""
    _expect(isinstance(name, str) and re.fullmatch(r'[\w.]+', name), source, 'architecture', name, "timm's name")
    architecture = str(name).partition('.')[0]
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=4, cutoff=0.5)
        hint = f'did you mean {", ".join(close)}?' if close else 'see timm.list_models()'
        raise ValueError(f"{source}: architecture '{architecture}' is unknown; {hint}")
    return architecture


def check_model_args(model_args: object, source: str) -> dict:
    """The arguments of the architecture."""
    _expect(isinstance(model_args, dict), source, 'model_args', model_args, 'arguments by name')
    assert isinstance(model_args, dict)
    for name, value in model_args.items():
        where = f'model_args.{name}'
        if not name.isidentifier() or name in FACTORY_ARGUMENTS or name in SOURCES or name.startswith('_'):
            raise ValueError(f'{source}: {where} is no argument of an architecture; drop it')
        expected = 'a number, a truth value, a word, or a list of these; no path and no module'
        _expect(_is_plain(value), source, where, value, expected)
    return {name: value for name, value in model_args.items() if value is not None}


def _is_plain(value: object, depth: int = 4) -> bool:
    """Whether a value can be no path and no module to import: words have no dot, slash, backslash, colon or tilde."""
    if isinstance(value, str):
        return re.fullmatch(r'[\w+\- ]*', value) is not None
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(one, depth - 1) for one in value)
    if isinstance(value, dict):
        return depth > 0 and all(name.isidentifier() and _is_plain(one, depth - 1) for name, one in value.items())
    return value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and abs(value) < float('inf'))


def _shown(pretrained_cfg: Mapping, model_args: Mapping, source: str) -> dict[str, Any]:
    """What the model is shown, as timm takes it: what ``pretrained_cfg`` leaves open has timm's defaults."""
    defaults = PretrainedCfg()
    names = ('input_size', 'mean', 'std', 'crop_pct', 'crop_mode', 'interpolation')
    told = {name: pretrained_cfg[name] for name in names if pretrained_cfg.get(name) is not None}
    shown = {name: told.get(name, getattr(defaults, name)) for name in names}
    shown = {name: list(value) if isinstance(value, tuple) else value for name, value in shown.items()}
    # Checked here, since the channels are about to be replaced; the rest is checked with the record.
    size = shown['input_size']
    is_size = isinstance(size, list) and len(size) == 3 and all(type(one) is int and one > 0 for one in size)
    _expect(is_size, source, 'pretrained_cfg.input_size', size, 'channels, height and width, in pixels')
    channels = model_args.get('in_chans', size[0])
    _expect(type(channels) is int and channels > 0, source, 'model_args.in_chans', channels, 'a number of channels')
    shown['input_size'] = [channels, *size[1:]]
    for name in ('mean', 'std'):
        # As timm does: one value stands for all channels, and the default has three.
        value = shown[name]
        if isinstance(value, list) and len(value) != channels and (name not in told or len(value) == 1):
            shown[name] = [sum(value) / len(value)] * channels if name not in told else value * channels
    return shown


def _model_kwargs(
    config: Mapping, pretrained_cfg: Mapping, model_args: dict, input_size: list[int], source: str
) -> dict:
    """All arguments that timm builds the model of a folder with, wherever in the folder they stand."""
    kwargs = dict(model_args)
    counts = (config.get('num_classes'), pretrained_cfg.get('num_classes'), PretrainedCfg().num_classes)
    count = next(one for one in counts if one is not None)
    # timm would give weights of another number of classes a random classifier.
    is_count = type(count) is int and 0 <= count <= MOST_CLASSES and kwargs.get('num_classes', count) == count
    expected = f'a whole number up to {MOST_CLASSES}, the same as model_args.num_classes'
    _expect(is_count, source, 'num_classes', count, expected)
    kwargs['num_classes'] = count
    if input_size[0] != 3:
        kwargs['in_chans'] = input_size[0]
    is_fixed = pretrained_cfg.get('fixed_input_size', False)
    _expect(isinstance(is_fixed, bool), source, 'pretrained_cfg.fixed_input_size', is_fixed, 'true or false')
    can_change = model_args.get('dynamic_img_size') or model_args.get('strict_img_size') is False
    if is_fixed and not can_change:
        kwargs.setdefault('img_size', input_size[1:])
    return kwargs


def _label_names(config: Mapping, pretrained_cfg: Mapping, source: str) -> list[str]:
    """Names of the classes in the order of the logits, or nothing."""
    places = ((config, 'label_names'), (pretrained_cfg, 'label_names'), (config, 'labels'))
    names: Any = next((place[name] for place, name in places if place.get(name)), [])
    expected = 'a list of names, or an object with a name for each index'
    if isinstance(names, dict):
        is_counted = all(index.isdecimal() for index in names)
        _expect(is_counted, source, 'label_names', f'an object with {first_of(list(names))}', expected)
        # Where indices have gaps, as timm allows, some classes have no name.
        names = [names[str(index)] for index in range(len(names)) if str(index) in names]
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    _expect(is_list, source, 'label_names', type(names).__name__, expected)
    descriptions = config.get('label_descriptions') or pretrained_cfg.get('label_descriptions') or {}
    is_words = isinstance(descriptions, dict) and all(isinstance(text, str) for text in descriptions.values())
    found = type(descriptions).__name__
    _expect(is_words, source, 'label_descriptions', found, 'an object with a text for each name of a class')
    return names


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


def _expect(is_fine: object, source: str, name: str, value: object, expected: str) -> None:
    """Raise ValueError about a value in ``config.json``, unless it is fine."""
    if not is_fine:
        text = repr(value)
        text = text if len(text) <= 80 else f'{text[:77]}…'
        raise ValueError(f'{source}: {name} is {text}; expected {expected}: correct it or save the model again')
