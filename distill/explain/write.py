"""The ``results.json`` of explained pairs, which `distill.report` shows."""

import json
from pathlib import Path

from distill.results import files
from distill.results.files import new_results
from distill.results.provenance import provenance
from distill.results.schema import FILE_NAME

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
    results = {**new_results(), 'explain': [entry], 'provenance': provenance(entry['seed'], command=command)}
    files.write_results(folder / FILE_NAME, results)
    return results
