"""Write a teacher's predictions, so that training needs the teacher no more."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.progress import track

from distill.api.checks import check_least
from distill.api.configs import experiment_of
from distill.api.networks import Given, networks
from distill.api.session import call
from distill.base.files import remove_leftovers
from distill.base.paths import check_can_write
from distill.base.processes import default_device
from distill.base.screen import screen
from distill.teachers.cache.manifest import DTYPES
from distill.teachers.cache.writer import CacheWriter, join_processes, size_bytes
from distill.training.experiment import load_config


@dataclass(frozen=True)
class TeacherCache:
    """A cache that is complete.

    Attributes:
        path: Its folder, for ``model.teacher.cache`` of a config, or ``train(…, teacher=dict(cache=path))``.
        rows: Number of predictions.
        size: In bytes.
        largest_difference: Between a stored and a computed probability; None if none was computed again.
        rank: Number of this process, of those that have written together.
    """

    path: Path
    rows: int
    size: int
    largest_difference: float | None = None
    rank: int = 0


@call
def cache_teacher(
    config: str | os.PathLike | Config | Mapping,
    out: str | os.PathLike,
    data_root: str | os.PathLike | None = None,
    *,
    teacher: Given | None = None,
    views: int | None = None,
    number: int = 0,
    topk: int | None = None,
    dtype: str = 'float16',
    verify: int = 0,
    launcher: str = 'none',
    progress: bool = True,
    cfg_options: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> TeacherCache:
    """Write a teacher's predictions for the views of a training config.

    The same as ``robust-backbones cache``. What an interrupted call has written is kept, and the rest is added.

    Args:
        config: That of the training, with a live teacher: a name, a path, or the config itself, see `train`.
        out: Folder of the cache.
        data_root: Folder of the data, in place of the config's.
        teacher: In place of the config's teacher, as `train` takes it. The cache of a network of your own is known by
            the hash of its weights, and is read without the network.
        views: Views of each image, after which training starts again at the first; None for as many as it shows.
        number: Which teacher, from 0, if the config has a list.
        topk: Classes to store of each prediction; None for all.
        dtype: Precision of the store, ``float16`` or ``float32``.
        verify: Compute so many pairs of views again and compare.
        launcher: How the processes were started; they share the files out among them.
        progress: Show a progress bar.
        cfg_options: Settings in place of the config's, as `train` takes them.
        **overrides: Settings in place of the config's, as `train` takes them.

    Returns:
        Where the cache is, and how large.

    Raises:
        FileNotFoundError: The config, the data or the teacher's checkpoint does not exist.
        ValueError: The config has no such live teacher, a number is out of range, or the folder holds another cache.
    """
    check_least(1, views=views, topk=topk)
    check_least(0, number=number, verify=verify)
    if dtype not in DTYPES:
        raise ValueError(f"dtype '{dtype}' is unknown; choose from {', '.join(DTYPES)}")
    check_can_write(out, 'out', is_folder=True)
    folder = Path(out)
    settings, _ = load_config(experiment_of(config, data_root, None, {**(cfg_options or {}), **overrides}, launcher))
    init_default_scope('mmengine')
    join_processes(launcher)
    with networks(settings, None, teacher):
        remove_leftovers(folder)
        writer = CacheWriter(settings, folder, views, topk, dtype, default_device(), number)
        shown = progress and writer.rank == 0
        console = screen(quiet=not shown)

        def bar(batches: Iterable, total: int) -> Iterable:
            return track(batches, 'predicting', total, console=console, disable=not shown)

        writer.write(bar)
        difference = writer.verify(verify) if verify and writer.rank == 0 else None
        return TeacherCache(folder, writer.store.rows, size_bytes(writer.store), difference, writer.rank)
