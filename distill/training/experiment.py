"""From a config and what is set beside it to a `Runner`, for all three tasks."""

import copy
import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import OPTIMIZERS
from mmengine.utils import import_modules_from_strings
from torch import nn

from backbones.checkpoint import read_weights_for
from distill.base.extras import how_to_install
from distill.base.paths import check_is_data
from distill.base.processes import join_on_cpu
from distill.training.checkpoints import read_safely
from distill.training.options import set_options, value_at
from distill.training.resume import latest_checkpoint
from distill.training.runner import Runner, bare_model
from distill.training.several_sets import set_sources

WHOLE_NUMBERS = {
    'train_cfg.val_interval': 1,
    # That a run takes no step, the runner says.
    **{f'train_cfg.{name}': 0 for name in ('max_epochs', 'max_iters')},
    **{f'{part}_dataloader.batch_size': 1 for part in ('train', 'val', 'test')},
    **{f'{part}_dataloader.num_workers': 0 for part in ('train', 'val', 'test')},
    'randomness.seed': 0,
}
"""Settings that are whole numbers, and the least that each may be."""
NUMBERS = {f'optim_wrapper.optimizer.{name}': 0 for name in ('lr', 'weight_decay')}
"""Settings that are numbers, and the least that each may be."""
SCOPES = ('mmdet', 'mmseg')
"""``default_scope`` of detectors and of segmenters."""


@dataclass(frozen=True)
class Experiment:
    """A config, and what is set beside it: what OpenMMLab's command line takes, and what a call takes.

    Attributes:
        config: Path of the config; or the config itself, which is not changed.
        data_root: Folder of the data in place of the config's.
        work_dir: Folder of logs and checkpoints in place of ``work_dirs/<config name>``.
        options: Settings in place of the config's, see `distill.training.options.set_options`.
        launcher: How processes were started: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
        sources: Several sets without labels in place of the config's one, for each ``dict(root=…)`` with ``weight`` for
            all or for none.
    """

    config: str | os.PathLike | Config
    data_root: str | None = None
    work_dir: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    launcher: str = 'none'
    sources: Sequence[Mapping[str, Any]] = ()


def read_config(experiment: Experiment) -> tuple[Config, list[str]]:
    """Read a config, put into it what is set beside it, and import the modules that it names.

    Args:
        experiment: The config and its settings.

    Returns:
        The config, with ``work_dir`` and ``launcher`` set, and a line for each shortcut among the settings.

    Raises:
        FileNotFoundError: The config does not exist, or one that it inherits from.
        ValueError: The config cannot be read, a setting does not fit it, or a module of ``custom_imports`` cannot be
            imported.
    """
    given = experiment.config
    config = copy.deepcopy(given) if isinstance(given, Config) else read_file(os.fspath(given))
    lines = set_options(config, experiment.options)
    if experiment.data_root:
        move_data_root(config, experiment.data_root)
    if experiment.sources:
        set_sources(config, experiment.sources)
    config.launcher = experiment.launcher
    config.work_dir = experiment.work_dir or config.get('work_dir') or f'work_dirs/{Path(config.filename).stem}'
    import_modules(config)
    return config, lines


def read_file(path: str) -> Config:
    """Read a config file, which is a program: any exception may come from it.

    Args:
        path: The config.

    Raises:
        FileNotFoundError: The config does not exist, or one that it inherits from.
        ValueError: The config cannot be read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"config '{path}' does not exist; see distill/configs, downstream_configs")
    try:
        _check_bases(path, ())
        return Config.fromfile(path, import_custom_modules=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"config '{path}' needs '{error.filename or error}', which does not exist; correct its _base_"
        ) from error
    except Exception as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise ValueError(f"config '{path}' cannot be read ({reason}); correct it, or what it inherits from") from error


def _check_bases(path: str, above: tuple[str, ...]) -> None:
    """Check that no config inherits from itself, which would be read without an end.

    Args:
        path: A config.
        above: The configs that inherit from it.
    """
    path = os.path.abspath(path)
    if path in above:
        raise ValueError(f"'{path}' inherits from itself by _base_")
    for base in Config._get_base_files(path):
        if '::' not in base and not os.path.isabs(base):
            base = os.path.join(os.path.dirname(path), base)
        if '::' not in base and os.path.isfile(base):
            _check_bases(base, (*above, path))


def import_modules(config: Config) -> None:
    """Import the modules of a config's ``custom_imports``, which register what the config names.

    Raises:
        ValueError: One cannot be imported.
    """
    custom = config.get('custom_imports') or {}
    names = custom.get('imports') or []
    for name in [names] if isinstance(names, str) else names:
        try:
            import_modules_from_strings(name, custom.get('allow_failed_imports', False))
        except ImportError as error:
            cause = error.__context__
            missing = getattr(cause, 'name', None) or ''
            advice = how_to_install(missing) or 'install it, or put the folder that has it on PYTHONPATH'
            if name.startswith('distill.') and f'{name}.'.startswith(f'{missing}.'):
                room = 'downstream' if config.get('default_scope') in SCOPES else 'training'
                advice = f"earlier versions had it; name 'distill.{room}.register' in its place"
            raise ValueError(
                f"custom_imports of '{config.filename}' cannot import '{name}' ({cause}); {advice}"
            ) from error


def load_config(experiment: Experiment) -> tuple[Config, list[str]]:
    """Read a config to run it on its data, as `read_config` does.

    Args:
        experiment: The config and its settings.

    Returns:
        The config, and a line for each shortcut among the settings.

    Raises:
        FileNotFoundError: The config or its data root does not exist.
        ValueError: As `read_config`.
    """
    config, lines = read_config(experiment)
    if not isinstance(config.get('model'), dict):
        raise ValueError(f"config '{config.filename}' has no model; inherit from one that has, by _base_")
    if reads_data_root(config):
        check_is_data(config.data_root, 'make or unpack the data there, or pass --data-root')
    os.environ.setdefault('LOCAL_RANK', '0')
    return config, lines


def reads_data_root(config: Config) -> bool:
    """Whether a loader or an evaluator has a path in the config's ``data_root``.

    A user's own config inherits one from a packaged config, and may give its data sets other folders.
    """
    root = config.get('data_root')
    used = [config.get(f'{part}_{kind}') for part in ('train', 'val', 'test') for kind in ('dataloader', 'evaluator')]

    def lies_inside(value) -> bool:
        if isinstance(value, dict):
            return any(map(lies_inside, value.values()))
        if isinstance(value, (list, tuple)):
            return any(map(lies_inside, value))
        return isinstance(value, str) and f'{value.rstrip("/")}/'.startswith(root.rstrip('/') + '/')

    return isinstance(root, str) and lies_inside(used)


def trains_classifier(config: Config) -> bool:
    """Whether a config trains a student that classifies; that of a detector or segmenter is such a one."""
    return 'student' in (config.get('model') or {}) and config.get('default_scope') not in SCOPES


def check_sections(config: Config, purpose: str, *places: str) -> None:
    """Check that a config has what a run needs.

    Args:
        config: The config.
        purpose: What needs the sections, for the error.
        places: Keys, with dots between those of inner settings; an empty section is a missing one.

    Raises:
        ValueError: A section is missing.
    """
    missing = [place for place in places if not value_at(config, place)]
    if missing:
        raise ValueError(f"config '{config.filename}' has no {missing[0]}, which {purpose} needs; add it")


def check_numbers(config: Config) -> None:
    """Check the numbers of a config that mmengine takes as they are and fails on later, and the optimizer's name.

    Raises:
        ValueError: A value is no number, or too small; or there is no such optimizer.
    """
    kind = value_at(config, 'optim_wrapper.optimizer.type')
    if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
        close = difflib.get_close_matches(kind, OPTIMIZERS.module_dict, n=4, cutoff=0.5)
        hint = (
            f'did you mean {", ".join(close)}?' if close else f'choose from {", ".join(sorted(OPTIMIZERS.module_dict))}'
        )
        raise ValueError(f"optimizer '{kind}' is unknown; {hint}")
    for place, least in (WHOLE_NUMBERS | NUMBERS).items():
        value = value_at(config, place)
        if value is None:
            continue
        kind, called = (int, 'whole number') if place in WHOLE_NUMBERS else ((int, float), 'number')
        if isinstance(value, bool) or not isinstance(value, kind) or not value >= least:
            raise ValueError(f'{place} is {value!r}; give a {called} of {least} or more')


def move_data_root(config: Config, data_root: str) -> None:
    """Replace the config's ``data_root`` wherever a path of the config lies in it.

    Raises:
        ValueError: The config has no ``data_root``, or no path in it.
    """
    if 'data_root' not in config:
        raise ValueError(f'{config.filename} has no data_root to replace; drop --data-root and use --cfg-options')
    if not reads_data_root(config):
        raise ValueError(
            f"no loader of {config.filename} has a path in its data_root '{config.data_root}', which --data-root would "
            'replace; drop --data-root and set the data_root of each dataset by --cfg-options'
        )
    old = config.data_root.rstrip('/')

    def moved(value):
        if isinstance(value, dict):
            for key in value:
                value[key] = moved(value[key])
            return value
        if isinstance(value, (list, tuple)):
            return type(value)(moved(item) for item in value)
        if isinstance(value, str) and (value.rstrip('/') == old or value.startswith(old + '/')):
            return data_root.rstrip('/') + value[len(old) :]
        return value

    for key in list(config):
        config[key] = moved(config[key])


def resume_from(choice: str, work_dir: str) -> tuple[bool, str | None]:
    """What ``--resume`` means.

    Args:
        choice: ``auto`` or a checkpoint's path.
        work_dir: Where ``auto`` looks.

    Returns:
        mmengine's ``resume`` and ``load_from``. With ``auto`` and no checkpoint yet, training starts anew.

    Raises:
        FileNotFoundError: The path does not exist.
    """
    checkpoint = latest_checkpoint(work_dir) if choice == 'auto' else choice
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise FileNotFoundError(f"checkpoint '{checkpoint}' does not exist; pass another or --resume alone")
    return checkpoint is not None, checkpoint


def check_weights(
    model: nn.Module, checkpoint: str, advice: str = 'test it with the config it was trained with'
) -> None:
    """Check that a checkpoint has all weights of a model that is tested; mmengine only warns.

    Args:
        model: The model.
        checkpoint: Path of the checkpoint.
        advice: The way out, for the error.

    Raises:
        ValueError: It lacks some, or they are of another shape.
    """
    bare = bare_model(model)
    own, weights = bare.state_dict(), read_weights_for(bare, checkpoint)[0]
    missing = [key for key in own if key not in weights]
    shapes = [
        f'{key} is {tuple(weights[key].shape)} there and {tuple(own[key].shape)} in the model'
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    if missing or shapes:
        problems = ([f'lacks {len(missing)} weights ({missing[0]}, …)'] if missing else []) + shapes[:1]
        raise ValueError(f"checkpoint '{checkpoint}' {'; '.join(problems)}; {advice}")


class ConfigFormattedOnce(Config):
    """A config whose text is formatted once, and again when it has changed.

    mmengine asks for the text five times before the first step and with each checkpoint, and each time yapf takes a
    tenth of a second of a core for it, or several.
    """

    @property
    def pretty_text(self) -> str:
        """The config as it is dumped."""
        content = repr(self._cfg_dict)
        if content not in _TEXTS:
            _TEXTS.clear()
            _TEXTS[content] = super().pretty_text
        return _TEXTS[content]


_TEXTS: dict[str, str] = {}
"""Text of the config that was asked for last, by its content."""


def build_runner(
    config: Config, hooks: Sequence[Hook] = (), notes: Sequence[str] = (), kind: type[Runner] = Runner
) -> Runner:
    """Build the `Runner` of a config, which it leaves as it is. The runner loads every file with weights only.

    Args:
        config: The config, completed by `distill.downstream.complete` for a detector or segmenter.
        hooks: Further hooks, which an option of the command asks for.
        notes: Lines for the log.
        kind: The class of the runner.

    Raises:
        ValueError: ``sync_bn`` is set for a distillation.
    """
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    read_safely()
    if config.get('sync_bn') and trains_classifier(config):
        raise ValueError("mmengine's sync_bn drops activations of timm's norms; set model.sync_bn=True in its place")
    join_on_cpu(config.launcher)
    config = copy.copy(config)
    object.__setattr__(config, '__class__', ConfigFormattedOnce)  # Its own way to set adds a setting.
    runner = kind.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook)
    for note in notes:
        runner.logger.info(note)
    return runner
