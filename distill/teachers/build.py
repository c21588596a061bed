"""From a config to a teacher."""

from collections.abc import Mapping, Sequence

from backbones.sources.own import is_own
from distill.teachers.cached import CachedTeacher
from distill.teachers.cached_features import CachedFeatures
from distill.teachers.ensemble import Ensemble
from distill.teachers.features import LiveFeatures
from distill.teachers.live import LiveTeacher
from distill.teachers.own import OwnFeatures, OwnTeacher
from distill.teachers.protocol import FeatureTeacher, Teacher

OF_TRAINING = ('weight', 'share', 'losses', 'statistics', 'warmup')
"""Keys of a feature teacher's config that say how it is learnt from; the others say what it is."""


def build_teacher(config: Mapping | Sequence[Mapping], compile: bool | Mapping = False) -> Teacher:
    """Build a teacher from a config.

    Args:
        config: Arguments of `LiveTeacher`, or of `OwnTeacher` for a network of a user's own; or, with the key
            ``cache``, those of `CachedTeacher`; or a list of such for the mean of several, each with an optional
            ``weight`` (1).
        compile: Options of `torch.compile`, or whether to compile.

    Raises:
        FileNotFoundError: A checkpoint or a cache does not exist.
        ValueError: The config describes no teacher, or the teacher cannot be built.
    """
    configs = [config] if isinstance(config, Mapping) else config
    if isinstance(configs, str) or not configs or not all(isinstance(each, Mapping) for each in configs):
        raise ValueError(f"model.teacher is {config!r}; give a dict such as dict(checkpoint='FILE'), or a list of them")
    if isinstance(config, Mapping):
        if 'cache' in config:
            return CachedTeacher(**config)
        return (OwnTeacher if is_own(config.get('model')) else LiveTeacher)(compile=compile, **config)
    weights = [each.get('weight', 1.0) for each in configs]
    members = [{key: value for key, value in each.items() if key != 'weight'} for each in configs]
    return Ensemble([build_teacher(member, compile) for member in members], weights)


def build_feature_teacher(config: Mapping, compile: bool | Mapping = False) -> FeatureTeacher:
    """Build a teacher of features from a config.

    Args:
        config: Arguments of `LiveFeatures`, or of `OwnFeatures` for a network of a user's own; with the key ``cache``
            not None, those of `CachedFeatures`.
        compile: Options of `torch.compile`, or whether to compile.

    Raises:
        FileNotFoundError: A checkpoint or a cache does not exist.
        ValueError: The config describes no teacher, or the teacher cannot be built.
    """
    model = {key: value for key, value in config.items() if key != 'cache'}
    if config.get('cache') is not None:
        return CachedFeatures(cache=config['cache'], **model)
    return (OwnFeatures if is_own(model.get('model')) else LiveFeatures)(compile=compile, **model)
