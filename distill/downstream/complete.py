"""What the commands add to a detector's or segmenter's config: all of it, and a line in the log for each addition.

A config that inherits from this project's ``_base_`` files names everything already: nothing is added to it, and
mmengine's own `Runner` trains it as it is. A user's own config, such as one of mmdet's with a `TimmBackbone`, gets what
a run of this project relies on:

- ``custom_imports``: the modules that register the additions below, and mmcv's operators; for a detector also how COCO
  files are read (`distill.downstream.annotations.register`).
- ``default_hooks.plain_checkpoint``: checkpoints load with weights only. mmengine's own do not with torch ≥ 2.6.
- ``default_hooks.seed_iteration``: a step's random numbers follow from (seed, iteration, rank).
- ``default_hooks.seed_samples``: a sample's random numbers follow from (seed, iteration, index).
- ``default_hooks.stop_on_bad_loss``: a run stops when a loss or a weight is NaN, and no checkpoint has NaN.
- ``default_hooks.check_data``: data and model are compared before training and before tests.
- ``CheckSample`` in the pipelines, unless ``check_data`` is switched off: every sample is checked when it is read.
- ``default_hooks.checkpoint.backend_args``: checkpoints are never half written.
- Of a `DenseDistiller`: ``default_hooks.check_teacher`` and ``default_hooks.save_student``, which writes the student
  alone, and ``default_hooks.checkpoint.save_best``.
- One order of ``metainfo.classes`` for a detector's data sets: that of ``load_from``, or else of the training set.

``LoadWholeImage``, which earlier configs hold, is written under its present name, which mmdet's and mmsegmentation's
inferencers look for in the config of a work directory. There ``test_pipeline`` is the pipeline of the test set.

An addition under ``default_hooks`` is switched off by setting it to None: ``default_hooks.seed_samples=None``.
``tools/print_config.py`` shows a config with the additions.
"""

import copy
from collections.abc import Iterator
from importlib import import_module

from mmengine.config import Config

from distill.downstream.class_order import LOADERS, order_classes
from distill.downstream.student_config import distils
from distill.training.experiment import SCOPES
from distill.training.runner import datasets_inside, type_name

IMPORTS = {
    'mmdet': ['backbones.openmmlab', 'distill.downstream.register', 'distill.downstream.annotations.register'],
    'mmseg': ['backbones.openmmlab', 'distill.downstream.register'],
}
"""The modules that a run relies on, by ``default_scope``."""
DISTILLING_HOOKS = {'check_teacher': 'CheckTeacherHook', 'save_student': 'SaveDenseStudentHook'}
"""The same for a run that distils."""
HOOKS = {
    'plain_checkpoint': 'PlainCheckpointHook',
    'seed_iteration': 'SeedIterationHook',
    'seed_samples': 'SeedSamplesHook',
    'stop_on_bad_loss': 'StopOnBadLossHook',
    'check_data': 'CheckDataHook',
}
"""Names in ``default_hooks`` and types of the hooks that a run relies on."""


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
    additions = (
        _imports,
        _old_wrappers,
        _old_loaders,
        _notebook_pipeline,
        _hooks,
        _backend,
        _best,
        _checks,
        order_classes,
    )
    return [line for add in additions for line in add(config)]


def _imports(config: Config) -> Iterator[str]:
    custom = config.setdefault('custom_imports', dict(allow_failed_imports=False))
    names = custom.get('imports') or []
    names = [names] if isinstance(names, str) else list(names)
    missing = [name for name in IMPORTS[config.default_scope] if name not in names]
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


def _old_loaders(config: Config) -> Iterator[str]:
    """Write `LoadWholeImage` under its present name, also in the pipelines at the top of a config."""
    steps = [step for step in dicts_inside(list(config.values())) if type_name(step) == 'LoadWholeImage']
    for step in steps:
        step['type'] = 'LoadImageFromFile'
        step.setdefault('imdecode_backend', 'pillow')
    if steps:
        yield "wrote LoadWholeImage as LoadImageFromFile with imdecode_backend='pillow', which is the same"


def _notebook_pipeline(config: Config) -> Iterator[str]:
    """Repeat a test set's pipeline as ``test_pipeline``, which mmseg's `inference_model` takes in its place."""
    pipeline = ((config.get('test_dataloader') or {}).get('dataset') or {}).get('pipeline')
    if config.default_scope != 'mmseg' or not pipeline or not config.get('test_pipeline'):
        return
    own, other = ([s for s in steps if type_name(s) != 'CheckSample'] for steps in (pipeline, config.test_pipeline))
    if own != other and 'TestTimeAug' not in map(type_name, own):
        config.test_pipeline = copy.deepcopy(pipeline)
        yield "set test_pipeline, which mmseg's inference_model takes, to the pipeline of test_dataloader"


def _hooks(config: Config) -> Iterator[str]:
    hooks = config.setdefault('default_hooks', {})
    present = [type_name(hook) for hook in [*hooks.values(), *(config.get('custom_hooks') or [])]]
    for name, kind in (HOOKS | (DISTILLING_HOOKS if distils(config) else {})).items():
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


def _best(config: Config) -> Iterator[str]:
    """Have the best student kept: what a distillation is run for."""
    hook = config.default_hooks.get('checkpoint')
    if not distils(config) or not hook or 'save_best' in hook or not config.get('val_dataloader'):
        return
    # mmseg's first score is the accuracy of pixels.
    score = 'mIoU' if type_name(config.get('val_evaluator')) == 'IoUMetric' else 'auto'
    config.default_hooks['checkpoint'] = dict(hook, save_best=score)
    yield f"added default_hooks.checkpoint.save_best='{score}'"


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


def dicts_inside(settings) -> Iterator[dict]:
    """All dictionaries in a part of a config, from the outside in."""
    if isinstance(settings, dict):
        yield settings
        settings = list(settings.values())
    if isinstance(settings, (list, tuple)):
        for inner in settings:
            yield from dicts_inside(inner)
