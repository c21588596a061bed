"""The same as `contract` for a member of each family that timm has itself."""

from functools import partial

from distill.gpu_check.contract import TIMMS, compare
from distill.gpu_check.rows import Check, Setting


def checks(setting: Setting) -> list[Check]:
    """A check for each member of `TIMMS`."""
    return [Check(name, partial(compare, name, kwargs, setting)) for name, kwargs in TIMMS.items()]
