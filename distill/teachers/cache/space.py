"""The space that a cache takes on the disk, told and checked before anything is written."""

import shutil
from collections.abc import Callable
from pathlib import Path

from distill.teachers.cache.rows import KEY_BYTES, Rows

UNITS = ('bytes', 'KiB', 'MiB', 'GiB', 'TiB')


def readable(size: float) -> str:
    """A number of bytes as people read it."""
    for unit in UNITS[:-1]:
        if size < 1024:
            return f'{size:.0f} {unit}' if unit == UNITS[0] else f'{size:.1f} {unit}'
        size /= 1024
    return f'{size:.1f} {UNITS[-1]}'


def require_space(store: Rows, tell: Callable[[str], None]) -> None:
    """Say how much a cache takes, and refuse it if the disk has not that much left.

    Args:
        store: The files to write; those that are there already take nothing more.
        tell: Called with one line.

    Raises:
        ValueError: The disk is too small.
    """
    absolute = store.directory.absolute()
    nearest: Path = next(folder for folder in (absolute, *absolute.parents) if folder.exists())
    left, missing, a_view = shutil.disk_usage(nearest).free, store.missing_bytes, store.row_bytes
    rest = '' if missing == store.size_bytes else f', of which {readable(missing)} are missing'
    parts = [f'{name} {readable(kind.itemsize)}' for name, (kind, *_) in (store.row_type.fields or {}).items()]
    of = f' ({", ".join(parts)}, key {readable(KEY_BYTES)})'
    tell(f'a view takes {readable(a_view)}{of}, all {store.rows:,} views {readable(store.size_bytes)}{rest}')
    if missing > left:
        raise ValueError(
            f"the cache takes {readable(missing)} more and the disk of '{store.directory}' has {readable(left)} left; "
            'store fewer --views or less of each, or choose another --out'
        )
