"""Describe a run and a teacher as the manifest of a cache does."""

from collections.abc import Mapping
from importlib import metadata

from backbones.checkpoint import read_weights, weights_sha256
from backbones.record import ModelRecord
from backbones.sources.found import Found, find_model
from backbones.sources.own import is_kept, is_own
from backbones.sources.source import Source, split_shown
from distill.data.preprocessor import ViewPreprocessor
from distill.data.readers import list_sha256
from distill.data.sampler import ViewSampler
from distill.data.views import Views
from distill.teachers.cache.manifest import (
    FeatureIdentity,
    ImageList,
    RunViews,
    TeacherIdentity,
    ViewSettings,
    plain,
)
from distill.teachers.own import own_sha256
from distill.teachers.protocol import FeatureTeacher

VERSIONED = ('torch', 'torchvision', 'timm', 'numpy', 'pillow', 'robust-backbones')
"""Packages that make views or predictions."""
ASKED = ('pooling', 'layer', 'size')
"""Which features are asked of a teacher."""


def describe_run(dataset: Views, sampler: ViewSampler, preprocessor: ViewPreprocessor) -> RunViews:
    """Describe what fixes the views of a run.

    Raises:
        ValueError: The views follow from more than their seed, so that they cannot be replayed.
    """
    require_view_sampler(sampler)
    plan = sampler.plan
    transform = dataset.transform_config | ({'in_memory': True} if dataset.in_memory else {})
    return RunViews(
        ImageList(len(dataset), len(dataset.classes), list_sha256(dataset.reader)),
        ViewSettings(dataset.seed, plain(transform), plan.repeats, plan.shuffle, plain(dataset.sources)),
        plain(preprocessor.describe()),
        {name: version(name) for name in VERSIONED},
    )


def require_view_sampler(sampler: object) -> None:
    """Check that the views of a run come by their numbers.

    Raises:
        ValueError: They do not: those of a stream, for instance, never come again.
    """
    if not isinstance(sampler, ViewSampler):
        raise ValueError(f'the sampler is a {type(sampler).__name__}; a teacher cache needs a ViewSampler')


def describe_teacher(config: Mapping) -> TeacherIdentity:
    """Describe what a teacher's config fixes, as far as it is named and at hand.

    Args:
        config: Arguments of `backbones.loading.load_configured`.

    Returns:
        The model and its arguments, and the hash of a checkpoint's weights; nothing if the config names a checkpoint
        that does not exist, or no model.
    """
    if is_own(config.get('model')):
        # The weights tell it all: another process may have given the class another name, or have the cache alone.
        expected = config.get('weights_sha256')
        known = own_sha256(config['model'], expected) if is_kept(config['model']) else expected
        return TeacherIdentity(weights_sha256=known) if known else TeacherIdentity()
    found = find_teacher(config)
    if found is None:
        return TeacherIdentity()
    arguments = {**found.record.model_kwargs, **split_shown({**config, **found.source.arguments})[1]}
    # A folder or a model on the hub that is named as the model is one and the same as long as its name is.
    name = found.record.model if config.get('checkpoint') is not None or found.source.path is None else config['model']
    identity = TeacherIdentity(model=str(name), model_kwargs=plain(arguments))
    if config.get('checkpoint') is not None and found.file is not None:
        identity['weights_sha256'] = weights_sha256(read_weights(found.file.path))
    return identity


def describe_asked(config: Mapping) -> FeatureIdentity:
    """Describe what a feature teacher's config fixes, as far as it is named and at hand, without building the teacher.

    Args:
        config: Arguments of `distill.teachers.features.LiveFeatures`.
    """
    asked = {key: config.get(key) for key in ASKED}
    if isinstance(asked['size'], int):
        asked['size'] = (asked['size'], asked['size'])
    model = {key: value for key, value in config.items() if key not in (*ASKED, 'name')}
    return {**describe_teacher(model), 'asked': plain(asked)}


def describe_features(teacher: FeatureTeacher, config: Mapping) -> FeatureIdentity:
    """Describe a feature teacher and what is asked of it.

    Args:
        teacher: The teacher.
        config: The arguments that it was built with.
    """
    return plain({**teacher.describe(), **describe_asked(config)})


def find_teacher(config: Mapping) -> Found | None:
    """What is known of a teacher's model, or None if the config names none, or a file that is not at hand.

    Args:
        config: Arguments of `backbones.loading.load_configured`.
    """
    checkpoint = config.get('checkpoint')
    given = config.get('model') if checkpoint is None else checkpoint
    if given is None or is_own(given):
        return None
    source = Source.parse(given)
    if source.repo is not None:  # which may need a network
        return Found(source, ModelRecord(str(config.get('model') or checkpoint), model_arguments(config)))
    if (source.path is not None and not source.path.exists()) or (source.path is None and checkpoint is not None):
        return None
    return find_model(**{key: value for key, value in config.items() if key not in ('pretrained', 'resample_stem')})


def model_arguments(config: Mapping) -> dict:
    """The arguments of the model alone."""
    others = ('model', 'checkpoint', 'pretrained', 'resample_stem')
    return {key: value for key, value in split_shown(config)[0].items() if key not in others}


def version(package: str) -> str | None:
    """Version of an installed package without its build; None for one that is not installed but on the path."""
    try:
        return metadata.version(package).partition('+')[0]
    except metadata.PackageNotFoundError:
        return None
