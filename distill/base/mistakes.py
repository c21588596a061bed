"""Tell a mistake in a config from a bug, and say in one line what is wrong.

mmengine's registry raises a KeyError for a type that it does not know and a TypeError for an argument that a type does
not take. Both are a user's mistake where mmengine itself raises them; the same exceptions from elsewhere are bugs.
"""

import difflib
import inspect
import re
import traceback
from types import FrameType
from typing import Any

REGISTRY = 'mmengine.registry.build_functions'
"""The module that builds what a config names."""
UNKNOWN_ARGUMENT = re.compile(r"(\w+)(?:\.\w+)?\(\) got an unexpected keyword argument '(\w+)'")
"""Python's message: the class or function, and the argument."""
SHOWN = 12
"""Names in a message at the most."""


def config_mistake(error: BaseException) -> str | None:
    """What is wrong with the config, if mmengine could not build what the config names.

    Args:
        error: An exception that was caught.

    Returns:
        One line, or None where the exception does not come from the registry, nor from a call of mmengine's with an
        argument of the config.
    """
    frames = _frames(error)
    if not frames:
        return None
    frame, module = frames[-1], _module(frames[-1])
    if isinstance(error, TypeError) and module.startswith('mmengine.runner'):
        unknown = UNKNOWN_ARGUMENT.search(str(error))
        return f"{unknown[1]} takes no '{unknown[2]}'; drop it from the config, or correct it" if unknown else None
    if not module.startswith('mmengine.registry'):
        # A constructor of mmengine's own that refuses a value; those of other packages may have bugs of their own.
        builds = [one for one in frames if _module(one) == REGISTRY]
        unknown = UNKNOWN_ARGUMENT.search(str(error)) if isinstance(error, TypeError) else None
        if isinstance(error, TypeError) and builds and unknown and unknown[2] in builds[-1].f_locals.get('args', {}):
            # A constructor passes on what it does not know to the class above it, which refuses it.
            return _wrong_arguments(_built(builds[-1]), builds[-1].f_locals['args'], error, unknown[2])
        if builds and module.startswith('mmengine.') and isinstance(error, (TypeError, AssertionError)):
            return _wrong_value(builds[-1], error)
        return None
    built, arguments = _built(frame), frame.f_locals.get('args', {})
    if built is not None and isinstance(error, TypeError):
        return _wrong_arguments(built, arguments, error)
    registry: Any = frame.f_locals.get('registry')
    name = frame.f_locals.get('obj_type')
    if isinstance(error, KeyError) and isinstance(name, str):
        close = difflib.get_close_matches(name, _names_in(registry), n=4, cutoff=0.5)
        hint = f'did you mean {", ".join(close)}?' if close else 'correct it, or name its module in custom_imports'
        return f"type '{name}' is unknown among the {registry.name}s of {registry.scope}; {hint}"
    return f'the config cannot be built ({" ".join(str(error.args[0]).split()) if error.args else error}); correct it'


def _frames(error: BaseException) -> list[FrameType]:
    """The frames that an exception has passed, the one that has raised it last."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _module(frame: FrameType) -> str:
    return frame.f_globals.get('__name__', '')


def _built(frame: FrameType) -> Any:
    """What a frame of the registry builds; schedules have a function of their own there."""
    return frame.f_locals.get('obj_cls') or frame.f_locals.get('scheduler_cls')


def _wrong_value(build: FrameType, error: BaseException) -> str:
    """The message about a constructor that refuses a value, given the registry's frame that calls it."""
    name = getattr(_built(build), '__name__', 'it')
    return f'{name} cannot be built ({" ".join(str(error).split())}); correct the config'


def _wrong_arguments(built: type, arguments: dict, error: TypeError, named: str | None = None) -> str:
    """The message about arguments that a type does not take; ``named`` is the one that another class has refused."""
    name = getattr(built, '__name__', str(built))
    known = [
        parameter.name
        for parameter in inspect.signature(built).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    unknown = [named] if named else [argument for argument in arguments if argument not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.6)
        hint = f'did you mean {close[0]}?' if close else f'it takes {", ".join(known[:SHOWN])}'
        return f"{name} takes no '{unknown[0]}'; {hint}{', …' if not close and len(known) > SHOWN else ''}"
    return f'{name} cannot be built ({error}); correct the config'


def _names_in(registry) -> list[str]:
    """The names that a registry and the registries above it know."""
    names: list[str] = []
    while registry is not None:
        names += registry.module_dict
        registry = registry.parent
    return names
