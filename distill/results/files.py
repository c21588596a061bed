"""The file ``results.json``: one function reads it, one writes it, and both check it against the schema."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from distill.base.files import read_json, to_plain, write_text
from distill.results.entries import Results
from distill.results.schema import FILE_NAME, SCHEMA_VERSION, validate


def new_results() -> Results:
    """Results without any section yet."""
    return {'schema_version': SCHEMA_VERSION}


def read_results(path: str | os.PathLike) -> Results:
    """Read a file of results and check it.

    Args:
        path: The file, or the folder that holds it under the name ``results.json``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not JSON or breaks the schema.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    results = read_json(path)
    try:
        validate(results, str(path))
    except ValueError as error:
        raise ValueError(f'{error}; write the file again, or correct it there') from None
    return cast(Results, results)


def write_results(path: str | os.PathLike, results: Results | Mapping) -> None:
    """Check results and write them, in one piece; a file that is there stays if they break the schema.

    Keys that the schema does not name may hold NaN or infinity, as mmdet's scores by class do where a set has no such
    object. JSON knows neither, so these are written as null.

    Args:
        path: The file.
        results: Its contents, which may hold numpy's values and tuples.

    Raises:
        ValueError: The results break the schema.
    """
    # As a reader will find them: plain numbers, and lists where there are tuples.
    content = json.loads(json.dumps(to_plain(results)))
    validate(content, str(path))
    write_text(path, json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False) + '\n')


def _finite(value):
    """The value with None in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
