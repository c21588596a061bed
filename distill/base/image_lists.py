"""Lists of images: a text file with a path a line, or a Parquet file with a column of paths."""

import os
from pathlib import Path

TEXT, PARQUET = ('.txt', '.lst', '.list'), ('.parquet', '.pq')
COLUMNS = ('path', 'image', 'file_name', 'filename')
"""Names of the column of paths; the first that is there is read. ``image`` may be a struct with a path."""


def is_list(path: str | os.PathLike) -> bool:
    """Whether a file's ending is that of a list of images."""
    return Path(path).suffix.lower() in TEXT + PARQUET


def read_list(path: str | os.PathLike, root: str | os.PathLike) -> list[str]:
    """Read the paths of a list, in its order.

    Args:
        path: The list. In a text file empty lines, and lines that begin with ``#``, name no image.
        root: The folder that paths are relative to, unless they are absolute.

    Returns:
        Paths as the list has them.

    Raises:
        FileNotFoundError: The list does not exist, or images of it.
        ValueError: The list cannot be read, or names no image.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"list of images '{path}' does not exist; write one with a path a line")
    named = _from_parquet(path) if Path(path).suffix.lower() in PARQUET else _from_text(path)
    if not named:
        raise ValueError(f"list of images '{path}' names no image; write a path a line")
    missing = [name for name in named if not os.path.isfile(os.path.join(root, name))]
    if missing:
        raise FileNotFoundError(
            f"list '{path}' names {len(missing)} of {len(named)} images that are not there, the first '{missing[0]}' "
            f"in '{root}'; restore them, or correct the list or its root"
        )
    return named


def _from_text(path: str | os.PathLike) -> list[str]:
    try:
        lines = Path(path).read_text(encoding='utf-8-sig').splitlines()
    except ValueError as error:
        raise ValueError(f"list of images '{path}' is no text ({error}); write a path a line") from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith('#')]


def _from_parquet(path: str | os.PathLike) -> list[str]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ValueError(f"list '{path}' needs the package pyarrow; get it by `pip install pyarrow`") from None
    try:
        names = parquet.read_schema(path).names
        column = next((name for name in COLUMNS if name in names), None)
        values = [] if column is None else parquet.read_table(path, columns=[column])[column].to_pylist()
    except (ArrowException, OSError) as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f"list of images '{path}' is no Parquet file ({reason}); write it again") from None
    if column is None:
        raise ValueError(
            f"list of images '{path}' has the columns {', '.join(names)}; call the one with paths {COLUMNS[0]}"
        )
    found: list = [value.get('path') if isinstance(value, dict) else value for value in values]
    lost = [row for row, value in enumerate(found) if not isinstance(value, str) or not value]
    if lost:
        raise ValueError(
            f"list of images '{path}' has no path in {len(lost)} rows, the first {lost[0]}, of its column '{column}'; "
            'fill or delete them, or read files that hold the images themselves by dataset.name=hfds/<folder>'
        )
    return found
