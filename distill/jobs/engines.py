"""The engines by name, and the settings that a user gives them."""

import ast
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distill.base.extras import how_to_install
from distill.jobs.command import Engine, own_code

ENGINES = {'local': None, 'slurm': 'submitit', 'ray': 'ray'}
"""Names of the engines, each with the library that it needs."""
JOBS = {'local': 2, 'slurm': 64, 'ray': 64}
"""How many commands an engine is given at a time unless a user says otherwise; a cluster has its own queue."""


def check_engine(name: str, options: Mapping[str, Any]) -> None:
    """Check that an engine is known and installed; what its options mean, it says itself.

    Raises:
        ValueError: It is not.
    """
    if name not in ENGINES:
        raise ValueError(f"engine '{name}' is unknown; choose from {', '.join(ENGINES)}")
    library = ENGINES[name]
    if library is not None and find_spec(library) is None:
        raise ValueError(f"engine '{name}' needs {library}, which is not installed; {how_to_install(library)}")
    if library is None and options:
        raise ValueError(f"engine '{name}' has no options, and {', '.join(options)} is given; see --jobs, --threads")


def open_engine(
    name: str, options: Mapping[str, Any], folder: Path, threads: int, jobs: int, forks: bool = False
) -> Engine:
    """Open an engine.

    Args:
        name: A name of `ENGINES`.
        options: Its settings, see `distill.jobs.slurm.SlurmEngine` and `distill.jobs.ray_cluster.RayEngine`.
        folder: Folder for the engine's own files, which all machines reach.
        threads: CPU threads that a command gets.
        jobs: Commands that run at a time.
        forks: On this machine start commands as forks of this process, if they can compute.

    Raises:
        ValueError: The engine is unknown or not installed, it cannot be reached, or an option is wrong.
    """
    check_engine(name, options)
    if name != 'local':
        os.environ.update(own_code())
    if name == 'slurm':
        from distill.jobs.slurm import SlurmEngine

        return SlurmEngine(folder, threads, jobs, **options)
    if name == 'ray':
        from distill.jobs.ray_cluster import RayEngine

        return RayEngine(threads, **options)
    from distill.jobs.local import LocalEngine, can_fork, prepare_forks

    forks = forks and can_fork()
    if forks:
        prepare_forks()
    return LocalEngine(forks)


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` words; a value is a Python literal, or text.

    Raises:
        ValueError: A word has no key.
    """
    options = {}
    for word in words:
        key, equals, value = word.partition('=')
        if not (equals and key.isidentifier()):
            raise ValueError(f"engine option '{word}' is not KEY=VALUE, such as partition=gpu")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return options
