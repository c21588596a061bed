"""Where numbers come from: command, time, seed, device and versions."""

import platform
import sys
from datetime import datetime, timezone

import numpy as np
import timm
import torch

from distill.results.entries import Provenance


def library_versions() -> dict[str, str]:
    """Versions of the libraries that numbers depend on."""
    return {'torch': torch.__version__, 'timm': timm.__version__, 'numpy': np.__version__}


def provenance(seed: int | None, device: str | None = None, command: str | None = None) -> Provenance:
    """The section ``provenance`` of results that are written now, without their data.

    Args:
        seed: Seed of what is random, or None where nothing is.
        device: Where the models ran; None leaves it out.
        command: The command line; None takes that of this process.
    """
    found: Provenance = {
        'command': ' '.join(['python', *sys.argv]) if command is None else command,
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'seed': seed,
    }
    if device is not None:
        found['device'] = device
    found['versions'] = {'python': platform.python_version(), **library_versions()}
    return found
