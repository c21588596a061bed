"""What the commands add to a detector's or segmenter's config: all of it, and a line in the log for each addition.

A config that inherits from this project's ``_base_`` files names everything already: nothing is added to it, and
mmengine's own `Runner` trains it as it is. A user's own config, such as one of mmdet's with a `TimmBackbone`, gets what
a run of this project relies on:

- ``custom_imports``: the modules that register the additions below, and mmcv's operators.
- ``default_hooks.plain_checkpoint``: checkpoints load with weights only. mmengine's own do not with torch ≥ 2.6.
- ``default_hooks.seed_iteration``: a step's random numbers follow from (seed, iteration, rank).
- ``default_hooks.seed_samples``: a sample's random numbers follow from (seed, iteration, index).
- ``default_hooks.stop_on_bad_loss``: a run stops when a loss or a weight is NaN, and no checkpoint has NaN.
- ``default_hooks.check_data``: data and model are compared before training and before tests.
- ``CheckSample`` in the pipelines, unless ``check_data`` is switched off: every sample is checked when it is read.
- ``default_hooks.checkpoint.backend_args``: checkpoints are never half written.

An addition under ``default_hooks`` is switched off by setting it to None: ``default_hooks.seed_samples=None``.
``tools/print_config.py`` shows a config with the additions.
"""

from collections.abc import Iterator
from importlib import import_module

from mmengine.config import Config

from distill.training.experiment import SCOPES
from distill.training.runner import datasets_inside

IMPORTS = ['backbones.openmmlab', 'distill.downstream.register']
HOOKS = {
    'plain_checkpoint': 'PlainCheckpointHook',
    'seed_iteration': 'SeedIterationHook',
    'seed_samples': 'SeedSamplesHook',
    'stop_on_bad_loss': 'StopOnBadLossHook',
    'check_data': 'CheckDataHook',
}
"""Names in ``default_hooks`` and types of the hooks that a run relies on."""
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def complete(config: Config) -> list[str]:
    """Add to a detector's or segmenter's config what a run of this project relies on.

    Args:
        config: A config of any task, which is changed in place. Nothing is added to a distillation's config, nor to
            one that has been completed.

    Returns:
        A line for each change.
    """
    if config.get('default_scope') not in SCOPES:
        return []
    return [*_imports(config), *_old_wrappers(config), *_hooks(config), *_backend(config), *_checks(config)]


def _imports(config: Config) -> Iterator[str]:
    custom = config.setdefault('custom_imports', dict(allow_failed_imports=False))
    names = custom.get('imports') or []
    names = [names] if isinstance(names, str) else list(names)
    missing = [name for name in IMPORTS if name not in names]
    if missing:
        custom['imports'] = missing + names
        for name in missing:
            import_module(name)
        yield f'added {", ".join(missing)} to custom_imports'


def _old_wrappers(config: Config) -> Iterator[str]:
    """Take out what earlier versions put around the training set and wrote into the configs of work directories."""
    loader = config.get('train_dataloader') or {}
    if type_name(loader.get('dataset')) == 'SeededSamples':
        loader['dataset'] = loader['dataset']['dataset']
        yield 'took SeededSamples off train_dataloader.dataset; SeedSamplesHook does it now'
    if type_name(loader.get('batch_sampler')) == 'NumberedBatches':
        batches = loader['batch_sampler']
        loader['batch_sampler'], loader['drop_last'] = batches.get('batches'), batches.get('drop_last', False)
        yield 'took NumberedBatches off train_dataloader.batch_sampler; SeedSamplesHook does it now'


def _hooks(config: Config) -> Iterator[str]:
    hooks = config.setdefault('default_hooks', {})
    present = [type_name(hook) for hook in [*hooks.values(), *(config.get('custom_hooks') or [])]]
    for name, kind in HOOKS.items():
        if name not in hooks and kind not in present:
            hooks[name] = dict(type=kind)
            yield f"added default_hooks.{name}=dict(type='{kind}')"


def _backend(config: Config) -> Iterator[str]:
    # mmengine adds this hook where a config does not name it.
    hook = config.default_hooks.get('checkpoint', dict(type='CheckpointHook', interval=1))
    local = type_name(hook) == 'CheckpointHook' and '://' not in str(hook.get('out_dir'))
    if local and not {'backend_args', 'file_client_args'} & set(hook):
        config.default_hooks['checkpoint'] = dict(hook, backend_args=dict(backend='atomic'))
        yield "added default_hooks.checkpoint.backend_args=dict(backend='atomic')"


def _checks(config: Config) -> Iterator[str]:
    if config.default_hooks.get('check_data', True) is None:
        return
    for name in LOADERS:
        for dataset in datasets_inside((config.get(name) or {}).get('dataset') or {}):
            steps = list(dataset['pipeline'])
            names = [type_name(step) for step in steps]
            after = max((place for place, step in enumerate(names, 1) if step.startswith('Load')), default=0)
            if after and 'CheckSample' not in names:
                dataset['pipeline'] = [*steps[:after], dict(type='CheckSample'), *steps[after:]]
                yield f'added CheckSample to the pipeline of {name}, after {names[after - 1]}'


def type_name(settings: dict | None) -> str:
    """The name of the class that a config builds, which it gives as text, with or without scope, or as the class."""
    kind = (settings or {}).get('type', '')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]
