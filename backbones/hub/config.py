"""The ``config.json`` of a model in timm's Hugging Face folder: what it says about a model, and what is written to it.

A folder is somebody else's word: every value is checked before a model is built by it.
"""

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import timm
from timm.models import PretrainedCfg, filter_pretrained_cfg
from torch import nn

from backbones.class_names import known_classes
from backbones.record import ModelRecord
from backbones.weights.names import first_of

OWN_KEY = 'robust_backbones'
"""What ``config.json`` holds beyond timm's: the fields of a `ModelRecord` that timm has no place for."""

LABEL_NAMES = 'label_names'
LABELS = (LABEL_NAMES, 'label_descriptions')
SHOWN = ('input_size', 'mean', 'std', 'crop_pct', 'crop_mode', 'interpolation')
"""Fields of a `ModelRecord` that timm's ``pretrained_cfg`` has under the same names."""

OF_THE_ARCHITECTURE = ('fixed_input_size', 'pool_size', 'first_conv', 'classifier', 'min_input_size')
"""Fields of timm's ``pretrained_cfg`` that hold for any weights of an architecture."""

FACTS = ('tag', 'license', 'description', 'origin_url', 'paper_name', 'paper_ids', 'notes', *LABELS)
"""What timm's ``pretrained_cfg`` says about certain weights alone."""

MOST_CLASSES = 1_000_000
FACTORY_ARGUMENTS = {
    'cache_dir', 'checkpoint_path', 'device', 'dtype', 'exportable', 'feature_cfg', 'feature_cls', 'features_only',
    'kwargs_filter', 'model_cfg', 'model_cls', 'model_name', 'no_jit', 'pretrained', 'pretrained_cfg',
    'pretrained_cfg_overlay', 'pretrained_filter_fn', 'pretrained_model_args', 'pretrained_strict', 'scriptable',
    'variant',
}  # fmt: skip
"""Arguments of ``timm.create_model`` and of what it calls that are no part of an architecture."""

CODE = ('auto_map', '_target_', '_partial_')
"""Fields by which other libraries import what a config names."""

SOURCES = ('url', 'file', 'hf_hub_id', 'hf_hub_filename', 'state_dict', 'source')
"""Fields of timm's ``pretrained_cfg`` that say where weights come from. The folder's own weights are taken."""


def record_of(config: Mapping, source: str) -> ModelRecord:
    """The record of the model that a ``config.json`` describes.

    Args:
        config: Its content.
        source: Path of the file, for an error.

    Raises:
        ValueError: A value is of another kind than its name says, names something outside of the folder, or the
            architecture is unknown.
    """
    quoted = f"'{source}'"
    pretrained_cfg = config.get('pretrained_cfg', config)
    _expect(isinstance(pretrained_cfg, dict), quoted, 'pretrained_cfg', pretrained_cfg, 'an object')
    _check_sources(pretrained_cfg, quoted)
    for name in CODE:
        _expect(name not in config, quoted, name, config.get(name), 'no code beside the weights')
    architecture = _architecture(config.get('architecture'), quoted)
    model_args = check_model_args(config.get('model_args') or {}, quoted)
    shown = _shown(pretrained_cfg, model_args, quoted)
    kwargs = _model_kwargs(config, pretrained_cfg, model_args, shown['input_size'], quoted)
    names = _label_names(config, pretrained_cfg, quoted)
    own = config.get(OWN_KEY) or {}
    _expect(isinstance(own, dict), quoted, OWN_KEY, own, 'an object')
    record = ModelRecord.from_json(
        {**own, 'model': architecture, 'model_kwargs': kwargs, 'classes': None, **shown}, source
    )
    # Where this project says so, label_names are the names that the data had; elsewhere they may be words for them.
    recorded = names if own.get('classes') == LABEL_NAMES else None
    classes = known_classes(recorded, {LABEL_NAMES: names}, kwargs['num_classes']) or None
    return replace(record, classes=classes)


def config_of(network: nn.Module, record: ModelRecord, facts: Mapping[str, Any] | None = None) -> dict:
    """The content of ``config.json`` for a network, from which `record_of` and timm make the same one again.

    Args:
        network: A timm model.
        record: Its record.
        facts: What else is known of the weights, of ``FACTS``.

    Raises:
        ValueError: An argument of the model cannot be written, or timm's registry does not have its name.
    """
    model: Any = network
    architecture = _architecture(record.model, f"model '{record.model}'")
    told = filter_pretrained_cfg(dict(getattr(model, 'pretrained_cfg', {})), remove_source=True)
    input_size, facts = list(record.input_size or told['input_size']), dict(facts or {})
    model_args = {**record.model_kwargs, 'num_classes': model.num_classes}
    if input_size[0] != 3:
        model_args['in_chans'] = input_size[0]
    if told.get('fixed_input_size'):
        model_args.setdefault('img_size', input_size[1:])
    try:
        model_args = check_model_args(json.loads(json.dumps(model_args)), f"model '{record.model}'")
    except TypeError as error:
        raise ValueError(f"an argument of '{record.model}' cannot be written as JSON ({error}); leave it out") from None
    shown = {name: getattr(record, name) for name in SHOWN if getattr(record, name) is not None}
    pretrained_cfg = {name: told[name] for name in OF_THE_ARCHITECTURE if name in told}
    if 'pool_size' in pretrained_cfg and input_size[1:] != list(told['input_size'][1:]):
        pretrained_cfg['pool_size'] = None  # As in timm: the map that is pooled has another size.
    pretrained_cfg |= {'custom_load': False, **shown, 'input_size': input_size, 'num_classes': model.num_classes}
    pretrained_cfg |= {name: facts[name] for name in FACTS if facts.get(name) and name not in LABELS}
    labels = {name: facts[name] for name in LABELS if facts.get(name)}
    if record.classes:
        labels = {LABEL_NAMES: record.classes, **_descriptions(record.classes, labels.get('label_descriptions'))}
    own = {name: value for name, value in record.to_json().items() if name not in ('model', 'model_kwargs', *SHOWN)}
    if record.classes:
        own['classes'] = LABEL_NAMES
    return {
        'architecture': architecture,
        'num_classes': model.num_classes,
        'num_features': model.num_features,
        **labels,
        'model_args': model_args,
        'pretrained_cfg': pretrained_cfg,
        OWN_KEY: own,
    }


def facts_of(config: Mapping) -> dict[str, Any]:
    """What a ``config.json`` knows of its weights, of ``FACTS``, for a copy of the model."""
    pretrained_cfg = config.get('pretrained_cfg', config)
    found = {**pretrained_cfg, **{name: config[name] for name in LABELS if config.get(name)}}
    return {name: found[name] for name in FACTS if found.get(name)}


def _descriptions(classes: list[str], told: Mapping | None) -> dict[str, dict]:
    """Words for the names of classes: those that are told, or those of ImageNet's WordNet ids."""
    if not told:
        from timm.data import ImageNetInfo

        told = ImageNetInfo().label_descriptions(as_dict=True)
    words = {name: told[name] for name in classes if name in told}
    return {'label_descriptions': words} if len(words) == len(set(classes)) else {}


def _check_sources(pretrained_cfg: Mapping, source: str) -> None:
    """Check that nothing leads out of the folder. Addresses on the web say where weights once came from."""
    custom = pretrained_cfg.get('custom_load')
    is_word = custom is None or isinstance(custom, bool) or re.fullmatch(r'\w*', str(custom))
    _expect(is_word, source, 'pretrained_cfg.custom_load', custom, 'true or false, and no module to import')
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
    told = {name: pretrained_cfg[name] for name in SHOWN if pretrained_cfg.get(name) is not None}
    shown = {name: told.get(name, getattr(defaults, name)) for name in SHOWN}
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


def _expect(is_fine: object, source: str, name: str, value: object, expected: str) -> None:
    """Raise ValueError about a value in ``config.json``, unless it is fine."""
    if not is_fine:
        text = repr(value)
        text = text if len(text) <= 80 else f'{text[:77]}…'
        raise ValueError(f'{source}: {name} is {text}; expected {expected}: correct it or save the model again')
