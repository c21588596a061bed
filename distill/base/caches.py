"""Commands write to the current folder and the paths they are given: no library makes a cache in the home folder."""

import atexit
import contextlib
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path


def leave_home_alone() -> None:
    """Keep matplotlib and yapf, by which mmengine writes configs, from making a cache in the home folder.

    A cache that is there is used as it is. Where there is none, matplotlib's list of fonts goes to a temporary folder
    that is removed when the process ends, and yapf makes its grammar without a file: some tenths of a second, more on a
    machine with thousands of fonts. To be called before either is imported.
    """
    caches = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    lists = [*caches.glob('matplotlib/fontlist-*.json'), *Path.home().glob('.matplotlib/fontlist-*.json')]
    if 'MPLCONFIGDIR' not in os.environ and not lists:
        # A full or protected disk of temporary files is no reason to stop: matplotlib then finds a way of its own.
        with contextlib.suppress(OSError):
            os.environ['MPLCONFIGDIR'] = _temporary_folder()
    if find_spec('yapf') and not [*caches.glob('YAPF/*/Grammar*')]:
        with contextlib.suppress(OSError):
            _import_yapf()


def _import_yapf() -> None:
    """Import yapf, which reads or makes its grammar as it is imported, with another folder of caches."""
    before = os.environ.get('XDG_CACHE_HOME')
    os.environ['XDG_CACHE_HOME'] = _temporary_folder()
    try:
        import yapf  # noqa: F401
    finally:
        if before is None:
            del os.environ['XDG_CACHE_HOME']
        else:
            os.environ['XDG_CACHE_HOME'] = before


def _temporary_folder() -> str:
    """A folder that goes with this process; not with processes that it has forked."""
    folder, process = tempfile.mkdtemp(prefix='robust-backbones-'), os.getpid()
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == process else None)
    return folder
