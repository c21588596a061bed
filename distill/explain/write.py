"""The ``results.json`` of explained pairs, which `distill.report` shows."""

from datetime import datetime, timezone
from pathlib import Path

import timm
import torch

from distill.base.files import read_json, write_json
from distill.results.schema import FILE_NAME, SCHEMA_VERSION, validate

OWN_KEYS = {'schema_version', 'explain', 'provenance'}


def check_replaceable(folder: Path) -> None:
    """Refuse to replace results other than those of explained pairs.

    Raises:
        ValueError: The folder's file holds something else.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return
    try:
        others = sorted(read_json(path).keys() - OWN_KEYS)
    except (ValueError, AttributeError):
        others = ['no results']
    if others:
        raise ValueError(f"'{path}' holds {', '.join(others)} and is not overwritten; give another --out")


def write_results(folder: Path, entry: dict, command: str) -> dict:
    """Write one explained pair.

    Args:
        folder: Folder of the file, at which the paths in the entry start.
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
    validate(results, str(folder / FILE_NAME))
    write_json(folder / FILE_NAME, results)
    return results
