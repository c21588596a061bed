"""The ``results.json`` of explained pairs, which `distill.report` shows."""

from pathlib import Path

from distill.base.files import read_json
from distill.results.entries import Results
from distill.results.files import new_results, write_results
from distill.results.provenance import provenance
from distill.results.schema import FILE_NAME

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


def write_pair(folder: Path, entry: dict, command: str) -> Results:
    """Write one explained pair.

    Args:
        folder: Folder of the file, at which the paths in the entry start.
        entry: What `explain_pair` returns.
        command: The command line.

    Returns:
        The contents of the file.
    """
    results = {**new_results(), 'explain': [entry], 'provenance': provenance(entry['seed'], command=command)}
    write_results(folder / FILE_NAME, results)
    return results
