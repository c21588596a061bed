"""Files that are written in one piece: a reader never finds half a file. JSON, text and arrays."""

import contextlib
import io
import json
import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np


# The same as `backbones.files.atomic_write`, which cannot be imported without torch and timm: that takes seconds, and
# the report, the embedded data and its worker processes need neither.
@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and move it there when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path, 'tmp')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(path: Path, ending: str) -> Path:
    """A hidden path beside ``path`` whose name tells the machine and the process that it belongs to.

    Args:
        path: What the temporary file or folder will become.
        ending: ``tmp``, ``partial`` or ``replaced``.
    """
    return path.with_name(f'.{path.name}.{platform.node()}.{os.getpid()}.{ending}')


def remove_leftovers(*folders: str | os.PathLike) -> None:
    """Remove the temporary files and folders that killed processes of this machine have left in folders.

    Commands that go on where they were stopped call this first. Files of other machines, which may share the disk, and
    of processes that run stay.
    """
    name = re.compile(rf'\..+\.{re.escape(platform.node())}\.(\d+)\.(tmp|partial|replaced)')
    for path in (path for folder in folders for path in Path(folder).glob('.*')):
        match = name.fullmatch(path.name)
        if match and not _runs(int(match[1])):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def to_plain(value):
    """Turn numpy values into Python's, in nested dicts, lists, tuples and sets too; a set becomes a list."""
    if isinstance(value, dict):
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(to_plain(v) for v in value)
    if isinstance(value, (list, set)):
        return [to_plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return value


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Write bytes in one piece, and make the folder if there is none."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike, content: str) -> None:
    """Write text, in UTF-8, in one piece."""
    write_bytes(path, content.encode())


def write_json(path: str | os.PathLike, content) -> None:
    """Write JSON in one piece."""
    write_text(path, json.dumps(to_plain(content), indent=1, ensure_ascii=False) + '\n')


def read_json(path: str | os.PathLike, way_out: str = 'write it again'):
    """Read a JSON file.

    Args:
        path: The file.
        way_out: What the user can do about a damaged file, for the error.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{path}' is not valid JSON ({error}); {way_out}") from None


def write_npz(path: str | os.PathLike, arrays: Mapping, compress: bool = True) -> None:
    """Write arrays by name in one piece, in numpy's ``.npz``.

    Args:
        path: The file.
        arrays: What `numpy.asarray` takes, by name.
        compress: Trade time for size.
    """
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **arrays)
    write_bytes(path, buffer.getvalue())
