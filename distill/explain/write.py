"""The ``results.json`` of explained pairs, which `distill.report` shows."""

import json
from datetime import datetime, timezone
from pathlib import Path

import timm
import torch

from backbones.files import atomic_write
from distill.results.schema import FILE_NAME, SCHEMA_VERSION

OWN_KEYS = {'schema_version', 'explain', 'provenance'}


def check_replaceable(folder: Path) -> None:
    """Results of explained pairs may be replaced, others not.

    Raises:
        ValueError: The folder's file holds something else.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return
    try:
        others = sorted(json.loads(path.read_text()).keys() - OWN_KEYS)
    except (ValueError, AttributeError):
        others = ['no results']
    if others:
        raise ValueError(f"'{path}' holds {', '.join(others)} and is not overwritten; give another --out")


def write_results(folder: Path, entry: dict, command: str) -> dict:
    """Write one explained pair.

    Args:
        folder: Where the file goes; the paths in the entry start there.
        entry: What `explain_pair` returns.
        command: The command line.

    Returns:
        The contents of the file.
    """
    results = {
        'schema_version': SCHEMA_VERSION,
        'explain': [entry],
        'provenance': {
            'command': command,
            'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
            'seed': entry['seed'],
            'versions': {'torch': torch.__version__, 'timm': timm.__version__},
        },
    }
    with atomic_write(folder / FILE_NAME) as temporary:
        temporary.write_text(json.dumps(results, indent=1, allow_nan=False))
    return results
