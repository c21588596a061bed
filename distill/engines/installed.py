"""Which packages of an engine are there."""

import importlib.util
from importlib import metadata

from distill.base.extras import how_to_install


def missing_modules(engine: str, *modules: str) -> str | None:
    """The packages of an engine that are not there, with the way out, in a line; None if all are there.

    Args:
        engine: Name of the engine.
        modules: What it imports.
    """
    lacking = [name for name in modules if importlib.util.find_spec(name) is None]
    if not lacking:
        return None
    return f'{" and ".join(lacking)}, which {"is" if len(lacking) == 1 else "are"} not installed; ' + str(
        how_to_install(lacking[0]) or f'install {engine}'
    )


def version_of(distribution: str) -> str:
    """The version of an installed distribution, without what is local to a build."""
    return metadata.version(distribution)
