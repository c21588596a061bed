"""Settings that are put in place of a config's: by ``--cfg-options``, and by keywords of a call.

A key is one of mmengine's, dotted or not, or a shortcut of `SHORTCUTS` for what is changed most often.
"""

import copy
import difflib
import inspect
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import Tensor, nn

from distill.training.length import EPOCHS, ITERS, stretched
from distill.training.runner import Runner

SHORTCUTS = {
    'epochs': 'length of the training; schedules that end with it still do, and milestones move',
    'iters': 'the same for a config that counts iterations',
    'batch_size': 'images of a training step in each process',
    'lr': 'learning rate',
    'num_workers': 'processes of each data loader; 0 loads in the process itself',
    'seed': 'seed of the run',
}
"""Keys that stand for others, and what each sets."""
CALL_KEYWORDS = ('student', 'teacher', 'resume', 'shifts', 'track', 'verbose')
"""Keywords of `distill.train` that are no settings, and that a mistyped one may have meant."""
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
VARIABLES = {EPOCHS.key: EPOCHS.word, ITERS.key: ITERS.word}
"""Variables that configs have, which other settings are made of while a config is read, and the shortcut for each."""
OTHER_SETTINGS = (
    *('auto_scale_lr', 'custom_imports', 'sync_bn', 'compile', 'find_unused_parameters', 'model_wrapper_cfg'),
    *('tta_model', 'tta_pipeline', 'train_pipeline', 'test_pipeline', 'data_root', 'metainfo'),
)
"""What a config may hold besides: for mmengine's runner, for inferencers, or for other settings."""


def set_options(config: Config, options: Mapping[str, Any]) -> list[str]:
    """Put settings in place of a config's.

    Args:
        config: The config, which is changed in place.
        options: Values by key: mmengine's keys with dots or nested dictionaries, or those of `SHORTCUTS`.

    Returns:
        A line for each shortcut, which says what it has set.

    Raises:
        ValueError: A key begins with a name that neither the config nor mmengine's runner has, it leads through
            something that holds no settings, or two keys set the same.
    """
    short = {key: holdable(options[key], key) for key in SHORTCUTS if options.get(key) is not None}
    plain = {key: holdable(value, key) for key, value in options.items() if key not in SHORTCUTS}
    _check_names(config, plain)
    _merge(config, plain)
    given, lines = set(places(plain)), []
    for key, value in short.items():
        settings, changes = _meant(config, key, value)
        if twice := sorted(given & {*places(settings)} - {'param_scheduler'}):
            raise ValueError(f'{key} and {twice[0]} set the same; drop one')
        _merge(config, settings)
        lines.append(f'{key}={value}: {"; ".join(changes) or "as the config has it"}')
    return lines


def holdable(value: Any, name: str) -> Any:
    """A copy of a setting as a config can hold it, which is text: paths are strings there, and numpy's numbers plain.

    Args:
        value: What the user has given.
        name: Where it belongs, for the error.

    Raises:
        ValueError: It is, or holds, a network or a tensor.
    """
    if isinstance(value, Mapping):
        return {key: holdable(one, f'{name}.{key}') for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(holdable(one, name) for one in value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (nn.Module, Tensor)):
        raise ValueError(
            f'{name} is a {type(value).__name__}, which no config can hold; give a network as student or teacher'
        )
    return copy.deepcopy(value)


def _check_names(config: Config, options: Mapping[str, Any]) -> None:
    """Check that something reads each setting."""
    read = [*inspect.signature(Runner.__init__).parameters, *OTHER_SETTINGS]
    known = [*config, *read, *SHORTCUTS]
    for key in options:
        root = key.partition('.')[0]
        if root in VARIABLES:
            raise ValueError(f'{key} is a variable, which nothing reads any more; give {VARIABLES[root]} in its place')
        if root not in known:
            close = difflib.get_close_matches(root, [*known, *CALL_KEYWORDS], n=1)
            has = f'choose from {", ".join(SHORTCUTS)}, or what {config.filename} has: {", ".join(sorted(config))}'
            hint = f'did you mean {close[0]}?' if close and close[0] != root else has
            raise ValueError(f"setting {key} sets '{root}', which nothing reads; {hint}")


def _merge(config: Config, settings: Mapping[str, Any]) -> None:
    try:
        config.merge_from_dict(dict(settings))
    except (KeyError, IndexError, TypeError, AttributeError, AssertionError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(
            f'settings {", ".join(settings)} do not fit {config.filename} ({reason}); correct them'
        ) from error


def places(settings: Mapping[str, Any], above: str = '') -> Iterator[str]:
    """The dotted keys of all values that are no dictionaries."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from places(value, f'{above}{key}.')
        else:
            yield f'{above}{key}'


def _meant(config: Config, key: str, value: Any) -> tuple[dict, list[str]]:
    """The settings that a shortcut stands for, and words for what changes.

    Raises:
        ValueError: The config has nothing that the shortcut would set, or the value is none for it.
    """
    least = 0 if key in ('num_workers', 'seed', 'lr') else 1
    kind, called = ((int, float), 'number') if key == 'lr' else (int, 'whole number')
    if isinstance(value, bool) or not isinstance(value, kind) or not value >= least:
        raise ValueError(f'{key} is {value!r}; give a {called} of {least} or more')
    if key in ('epochs', 'iters'):
        if not config.get('train_cfg'):
            raise ValueError(f'{config.filename} has no train_cfg, which {key} sets; add it')
        return stretched(config, int(value), EPOCHS if key == 'epochs' else ITERS)
    if key == 'seed':
        place = ['randomness.seed']
    elif key == 'lr':
        place = ['optim_wrapper.optimizer.lr']
    else:
        place = [f'{loader}.{key}' for loader in (LOADERS[:1] if key == 'batch_size' else LOADERS)]
        place = [one for one in place if config.get(one.partition('.')[0])]
    if not place or (key == 'lr' and not value_at(config, 'optim_wrapper.optimizer')):
        raise ValueError(f'{config.filename} has nothing that {key} would set; drop it')
    settings: dict[str, Any] = dict.fromkeys(place, value)
    if key == 'num_workers' and value == 0:
        # Without processes there is nothing that could persist, or fetch ahead.
        for loader in (one.partition('.')[0] for one in place):
            for option, off in (('persistent_workers', False), ('prefetch_factor', None)):
                if config[loader].get(option):
                    settings[f'{loader}.{option}'] = off
    return settings, [f'{one} {value_at(config, one)} -> {new}' for one, new in settings.items()]


def value_at(config: Config, place: str) -> Any:
    """A value of a config, given by keys with dots between them; None where it is not there."""
    value: Any = config
    for key in place.split('.'):
        value = value.get(key) if isinstance(value, (dict, Config)) else None
    return value
