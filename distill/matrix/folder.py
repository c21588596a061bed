"""The folder of a transfer experiment, which belongs to one experiment, and to one command at a time."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from distill.base.files import write_text

LOCK = '.in-use'


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other commands out of a folder while this one works in it.

    The lock is the system's, and is gone with the process that holds it, however that ends.

    Args:
        folder: The work folder of an experiment.

    Raises:
        ValueError: Another command works in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open('a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or 'unknown'
            raise ValueError(
                f"work folder '{folder}' is in use by another command ({holder}); wait for it, or pass another "
                '--work-dir'
            ) from None
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        file.flush()
        yield


def write_config(path: Path, base: str, text: str, products: Path) -> None:
    """Write the config of a step, unless the file is there with the same content.

    Args:
        path: The file.
        base: The config that it inherits from.
        text: What it adds.
        products: Folder of what the step makes.

    Raises:
        ValueError: The step has begun with other settings, of another experiment or of this one.
    """
    head = f'_base_ = {str(Path(base).resolve())!r}\n'
    if path.is_file():
        before, _, rest = path.read_text().partition('\n')
        # The folder of the configs may have moved.
        same = rest == text and Path(before.strip('\'"')).name == Path(base).name
        if not same and products.exists():
            raise ValueError(
                f"'{products}' was begun with other settings ('{path.name}' beside it has another teacher, loss, "
                'schedule or base): two experiments do not share a folder; pass another --work-dir'
            )
        if path.read_text() == head + text:
            return
    write_text(path, head + text)
