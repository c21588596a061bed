"""Files that are never half written, and plain values in them."""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from backbones.files import atomic_write


def to_plain(value):
    """Turn numpy values into Python's, and containers into dicts, lists and tuples of such."""
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(to_plain(v) for v in value)
    if isinstance(value, (list, set)):
        return [to_plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value


def write_json(path: str | os.PathLike, content) -> None:
    """Write JSON in one piece."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(to_plain(content), indent=1) + '\n')


def write_npz(path: Path, arrays: Mapping, compress: bool = True) -> None:
    """Write arrays in one piece."""
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **arrays)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
