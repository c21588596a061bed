"""From a config to a teacher."""

from collections.abc import Mapping, Sequence

from distill.teachers.cached import CachedTeacher
from distill.teachers.ensemble import Ensemble
from distill.teachers.live import Teacher


def build_teacher(config: Mapping | Sequence[Mapping], compile: bool | Mapping = False):
    """Build a teacher from a config.

    Args:
        config: Arguments of `Teacher`; or with the key ``cache`` those of `distill.teachers.cached.CachedTeacher`; or a
            list of such for the mean of several, each with an optional ``weight``.
        compile: Options of `torch.compile`, or whether to compile.

    Returns:
        An object that is called like a `Teacher`.
    """
    if isinstance(config, Sequence):
        weights = [one.get('weight', 1.0) for one in config]
        alone = [{key: value for key, value in one.items() if key != 'weight'} for one in config]
        return Ensemble([build_teacher(one, compile) for one in alone], weights)
    if 'cache' in config:
        return CachedTeacher(**config)
    return Teacher(compile=compile, **config)
