"""Describe a run and a teacher as the manifest of a cache does."""

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from backbones.checkpoint import read_weights, resolve_model, weights_sha256
from backbones.own import is_kept, is_own
from distill.data.preprocessor import ViewPreprocessor
from distill.data.readers import list_sha256
from distill.data.sampler import ViewSampler
from distill.data.views import Views
from distill.teachers.cache.manifest import ImageList, RunViews, TeacherIdentity, ViewSettings, plain
from distill.teachers.own import own_sha256

VERSIONED = ('torch', 'torchvision', 'timm', 'numpy', 'pillow', 'robust-backbones')
"""Packages that make views or predictions."""


def describe_run(dataset: Views, sampler: ViewSampler, preprocessor: ViewPreprocessor) -> RunViews:
    """Describe what fixes the views of a run.

    Raises:
        ValueError: The views follow from more than their seed, so that they cannot be replayed.
    """
    if not isinstance(sampler, ViewSampler):
        raise ValueError(f'the sampler is a {type(sampler).__name__}; a teacher cache needs a ViewSampler')
    plan = sampler.plan
    return RunViews(
        ImageList(len(dataset), len(dataset.classes), list_sha256(dataset.reader)),
        ViewSettings(dataset.seed, plain(dataset.transform_config), plan.repeats, plan.shuffle),
        plain(preprocessor.describe()),
        {name: version(name) for name in VERSIONED},
    )


def describe_teacher(config: Mapping) -> TeacherIdentity:
    """Describe what a teacher's config fixes, as far as it is named and at hand.

    Args:
        config: Arguments of `backbones.checkpoint.build_model`.

    Returns:
        The model and its arguments, and the hash of a checkpoint's weights; nothing if the config names a checkpoint
        that does not exist, or no model.
    """
    if is_own(config.get('model')):
        # The weights tell it all: another process may have given the class another name, or have the cache alone.
        expected = config.get('weights_sha256')
        known = own_sha256(config['model'], expected) if is_kept(config['model']) else expected
        return TeacherIdentity(weights_sha256=known) if known else TeacherIdentity()
    checkpoint = config.get('checkpoint')
    at_hand = config.get('model') is not None if checkpoint is None else Path(checkpoint).is_file()
    if not at_hand:
        return TeacherIdentity()
    record = resolve_model(**config)
    identity = TeacherIdentity(model=record.model, model_kwargs=plain(record.model_kwargs))
    if checkpoint is not None:
        identity['weights_sha256'] = weights_sha256(read_weights(checkpoint))
    return identity


def version(package: str) -> str | None:
    """Version of an installed package without its build; None for one that is not installed but on the path."""
    try:
        return metadata.version(package).partition('+')[0]
    except metadata.PackageNotFoundError:
        return None
