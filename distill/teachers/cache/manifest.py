"""What the predictions of a cache depend on."""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from backbones.checkpoint import read_weights, resolve_model, weights_sha256
from distill.data.plan import ViewPlan
from distill.data.preprocessor import ViewPreprocessor
from distill.data.readers import list_sha256
from distill.data.sampler import ViewSampler
from distill.data.views import Views
from distill.teachers.cache.store import Store

MANIFEST = 'manifest.json'
FORMAT = 1
"""Raise it when the rows, or the views of a seed, change."""
VERSIONED = ('torch', 'torchvision', 'timm', 'numpy', 'pillow', 'robust-backbones')
"""Packages that make views or predictions."""


def read_manifest(cache: Path) -> dict:
    """The manifest of a cache.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It cannot be read, or is of another format.
    """
    path = cache / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"'{cache}' has no {MANIFEST}; write the cache by tools/cache_teacher.py")
    try:
        manifest = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"'{path}' is not valid JSON ({error}); write the cache again") from None
    if manifest.get('format') != FORMAT:
        raise ValueError(f"cache '{cache}' has format {manifest.get('format')}, and {FORMAT} is read; write it again")
    return manifest


def make_manifest(teacher: dict, run: dict, num_classes: int, views: int, topk: int, dtype: str) -> dict:
    """All that the predictions of a cache depend on, and how they are stored."""
    cache = dict(views=views, num_classes=num_classes, topk=topk, dtype=dtype)
    return {'format': FORMAT, 'cache': cache, 'teacher': teacher, 'run': run}


def plan_of(manifest: Mapping) -> ViewPlan:
    """The plan that a manifest describes."""
    views = manifest['run']['views']
    return ViewPlan(manifest['run']['data']['images'], views['repeats'], views['shuffle'], views['seed'])


def store_of(directory: Path, manifest: Mapping) -> Store:
    """The files that a manifest describes."""
    cache, plan = manifest['cache'], plan_of(manifest)
    rows = plan.epochs(cache['views']) * plan.rows_per_epoch
    return Store(directory, rows, cache['num_classes'], cache['topk'], cache['dtype'])


def describe_run(dataset: Views, sampler: ViewSampler, preprocessor: ViewPreprocessor) -> dict:
    """What decides the views of a run, in plain values."""
    if not isinstance(sampler, ViewSampler):
        raise ValueError(f'the sampler is a {type(sampler).__name__}; a teacher cache needs a ViewSampler')
    plan = sampler.plan
    return plain(
        {
            'data': {
                'images': len(dataset),
                'classes': len(dataset.classes),
                'list_sha256': list_sha256(dataset.reader),
            },
            'views': {
                'seed': dataset.seed,
                'transform': dataset.transform_config,
                'repeats': plan.repeats,
                'shuffle': plan.shuffle,
            },
            'batch': preprocessor.describe(),
            'versions': {name: version(name) for name in VERSIONED},
        }
    )


def describe_teacher(config: Mapping) -> dict:
    """What a teacher's config fixes, as far as it is named and at hand.

    Args:
        config: Arguments of `backbones.checkpoint.build_model`.

    Returns:
        ``model`` and ``model_kwargs``, and ``weights_sha256`` of a checkpoint.
    """
    checkpoint = config.get('checkpoint')
    at_hand = config.get('model') is not None if checkpoint is None else Path(checkpoint).is_file()
    if not at_hand:
        return {}
    record = resolve_model(**config)
    weights = {} if checkpoint is None else {'weights_sha256': weights_sha256(read_weights(checkpoint))}
    return plain({'model': record.model, 'model_kwargs': record.model_kwargs, **weights})


def version(package: str) -> str | None:
    """Version of an installed package without its build; None for one that is not installed but on the path."""
    try:
        return metadata.version(package).partition('+')[0]
    except metadata.PackageNotFoundError:
        return None


def plain(value):
    """The value as it comes back from a JSON file."""
    return json.loads(json.dumps(value))


def require_equal(written: Mapping, now: Mapping, cache: Path) -> None:
    """Compare what a cache was written with and what there is now.

    Raises:
        ValueError: They differ; the message has each difference.
    """
    found = differences(written, now)
    if found:
        raise ValueError(
            f"cache '{cache}' does not fit: {'; '.join(found)}; restore that, or write another cache by "
            'tools/cache_teacher.py'
        )


def differences(written, now, name: str = '') -> list[str]:
    """What differs between two trees of plain values, one sentence a leaf."""
    if isinstance(written, Mapping) and isinstance(now, Mapping):
        return [
            found
            for key in sorted({*written, *now})
            for found in differences(written.get(key), now.get(key), f'{name}.{key}'.lstrip('.'))
        ]
    return [] if written == now else [f'{name} was {written} and is {now}']
