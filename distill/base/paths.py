"""Checks of the paths that a user gives, before anything is computed."""

import os
from pathlib import Path

from distill.base.image_lists import is_list

PIPE = 'pipe:'
"""Begins a data root that is a command, which writes a tar file to its output."""


def check_ending(path: str | os.PathLike, what: str, endings: tuple[str, ...]) -> None:
    """Check that a file's name tells a known format.

    Raises:
        ValueError: It does not.
    """
    if Path(path).suffix not in endings:
        raise ValueError(f"{what} '{path}' has no known ending; choose {', '.join(endings)}")


def check_is_file(path: str | os.PathLike, what: str, way_out: str) -> None:
    """Check that a file exists.

    Raises:
        FileNotFoundError: It does not.
    """
    if not Path(path).is_file():
        found = 'is a folder' if Path(path).is_dir() else 'does not exist'
        raise FileNotFoundError(f"{what} '{path}' {found}; {way_out}")


def check_is_folder(path: str | os.PathLike, what: str, way_out: str) -> None:
    """Check that a folder exists.

    Raises:
        FileNotFoundError: It does not.
    """
    if not Path(path).is_dir():
        found = 'is a file' if Path(path).is_file() else 'does not exist'
        raise FileNotFoundError(f"{what} '{path}' {found}; {way_out}")


def check_is_data(path: str | os.PathLike, way_out: str) -> None:
    """Check that images may be at a place: a folder, a tar file, a list of images, or the output of a command.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: There is another file.
    """
    if os.fspath(path).startswith(PIPE) or Path(path).is_dir():
        return
    if not Path(path).exists():
        raise FileNotFoundError(f"data root '{path}' does not exist; {way_out}")
    if not is_list(path) and Path(path).suffix != '.tar':
        raise ValueError(f"data root '{path}' is a file and no .tar; give a folder, a tar file, or a list of images")


def check_can_write(path: str | os.PathLike | None, option: str, is_folder: bool = False) -> None:
    """Check that a file or folder can be written, whose parents may be yet to be made, if it is given.

    Args:
        path: The file or folder, or None.
        option: What names the path, such as ``--out``, for the error.
        is_folder: Whether the path shall be a folder.

    Raises:
        ValueError: There is a file where a folder shall be, or the reverse.
        OSError: The folder cannot be made, or cannot be written.
    """
    if path is None:
        return
    path = Path(path)
    if is_folder and path.is_file():
        raise ValueError(f"{option} '{path}' is a file; give a folder")
    if not is_folder and path.is_dir():
        raise ValueError(f"{option} '{path}' is a folder; give a file")
    absolute = path.absolute()
    folders = (absolute, *absolute.parents) if is_folder else absolute.parents
    nearest = next(folder for folder in folders if folder.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"{option} '{path}' cannot be made, since '{nearest}' is a file; choose another")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{option} '{path}' cannot be written, since '{nearest}' is protected; choose another")
