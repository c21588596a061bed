"""Files and folders that are never half written."""

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and move it there when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A killed process leaves the file; machine and process in the name tell `distill.base.files` that it may go.
    temporary = path.with_name(f'.{path.name}.{platform.node()}.{os.getpid()}.tmp')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give a new folder beside ``path`` that takes its place when the block ends without an error.

    A folder that is there stays until then, and comes back if it cannot be replaced.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = f'.{path.name}.{platform.node()}.{os.getpid()}'
    partial, replaced = path.with_name(f'{stem}.partial'), path.with_name(f'{stem}.replaced')
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.rename(replaced)
        partial.rename(path)
    finally:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        for left in (partial, replaced):
            shutil.rmtree(left, ignore_errors=True)
