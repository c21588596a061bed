"""Where numbers come from: command, time, seed, device and versions."""

import platform
import shlex
import sys
from datetime import UTC, datetime

import numpy as np
import timm
import torch

from distill.results.entries import Provenance


def library_versions() -> dict[str, str]:
    """Versions of the libraries that numbers depend on."""
    return {'torch': torch.__version__, 'timm': timm.__version__, 'numpy': np.__version__}


def command_line() -> str:
    """The command line of this process: a file that Python runs, or the console command."""
    program, *arguments = sys.argv
    return ' '.join([f'python {program}' if program.endswith('.py') else program, shlex.join(arguments)])


def provenance(seed: int | None, device: str | None = None, command: str | None = None) -> Provenance:
    """The section ``provenance`` of results that are written now, without their data.

    Args:
        seed: Seed of what is random, or None where nothing is.
        device: Where the models ran; None leaves it out.
        command: The command line; None takes that of this process.
    """
    found: Provenance = {
        'command': command_line() if command is None else command,
        'created': datetime.now(UTC).isoformat(timespec='seconds'),
        'seed': seed,
    }
    if device is not None:
        found['device'] = device
    found['versions'] = {'python': platform.python_version(), **library_versions()}
    return found
