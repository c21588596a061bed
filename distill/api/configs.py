"""The config of a call: a name, a path, or the config itself."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

from distill.api.checks import check_launcher
from distill.base.packaged import CONFIG, ENDINGS, find
from distill.base.paths import check_can_write, check_ending, check_is_data
from distill.training.experiment import Experiment

UNNAMED = 'config.py'
"""The file name of a config that no file has: the copy in the work directory bears it."""

Path = str | os.PathLike
DataRoot = Path | Sequence[Path] | Mapping[Path, float]
"""Where the data is; without labels also several sets, or sets with their weights."""


def experiment_of(
    config: str | os.PathLike | Config | Mapping,
    data_root: DataRoot | None,
    work_dir: str | os.PathLike | None,
    options: Mapping[str, Any],
    launcher: str,
) -> Experiment:
    """What a call runs.

    Args:
        config: A name of ``robust-backbones configs``, of which a unique part suffices; the path of a config; or the
            config itself, mmengine's or a dictionary, which is not changed.
        data_root: Folder of the data in place of the config's; for images without labels also a list of sets, or a
            dictionary with the weight of each.
        work_dir: Folder of logs and checkpoints in place of ``work_dirs/<config name>``.
        options: Settings in place of the config's, see `distill.training.options.set_options`.
        launcher: How processes were started.

    Raises:
        FileNotFoundError: There is no such config, or no such set.
        OSError: The work directory cannot be written.
        ValueError: Several names fit, the config is of none of these kinds, or the launcher has not started this
            process.
    """
    found: str | Config
    if isinstance(config, Config):
        found = config if config.filename else _unnamed(config.to_dict())
    elif isinstance(config, Mapping):
        found = _unnamed(config)
    elif isinstance(config, (str, os.PathLike)):
        found = find(os.fspath(config), CONFIG)
        check_ending(found, 'config', ENDINGS)
    else:
        raise ValueError(f'config is a {type(config).__name__}; give a name, a path, a Config or a dict')
    check_launcher(launcher)
    check_can_write(work_dir, 'work_dir', is_folder=True)
    work = os.fspath(work_dir) if work_dir is not None else None
    if data_root is None or isinstance(data_root, (str, os.PathLike)):
        return Experiment(found, os.fspath(data_root) if data_root is not None else None, work, options, launcher)
    return Experiment(found, None, work, options, launcher, _sources(data_root))


def _sources(given: Sequence[Path] | Mapping[Path, float]) -> list[dict]:
    """The settings of several sets."""
    if not given or not all(isinstance(path, (str, os.PathLike)) for path in given):
        raise ValueError(f'data_root is {given!r}; give a path, a list of paths, or a dict with the weight of each')
    for path in given:
        check_is_data(path, 'correct data_root')
    weights = [dict(weight=weight) for weight in given.values()] if isinstance(given, Mapping) else [{}] * len(given)
    return [dict(root=os.fspath(path), **weight) for path, weight in zip(given, weights, strict=True)]


def _unnamed(content: Mapping) -> Config:
    # Without a text, mmengine reads the file of that name.
    return Config(dict(content), cfg_text='\n', filename=UNNAMED)
