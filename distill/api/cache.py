"""Write a teacher's predictions or features, so that training needs the teacher no more."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_dist_info
from mmengine.registry import init_default_scope
from rich.progress import track

from distill.api.checks import check_least
from distill.api.configs import DataRoot, experiment_of
from distill.api.networks import Given, networks
from distill.api.session import call
from distill.api.spread import Share, as_words, check_share, spread
from distill.base.files import remove_leftovers, write_text
from distill.base.paths import check_can_write
from distill.base.processes import default_device
from distill.base.screen import screen
from distill.teachers.cache.feature_writer import FeatureWriter, Stored
from distill.teachers.cache.grid_codec import DTYPES as GRID_DTYPES
from distill.teachers.cache.manifest import DTYPES
from distill.teachers.cache.writer import CacheWriter, join_processes
from distill.training.experiment import load_config

GRID_DIMS, FIT_VIEWS = Stored.grid_dims, Stored.fit_views


@dataclass(frozen=True)
class TeacherCache:
    """A cache that is complete.

    Attributes:
        path: Its folder, for ``model.teacher.cache`` of a config, or ``train(…, teacher=dict(cache=path))``; for the
            ``cache`` of one of ``model.teachers`` if it holds features.
        rows: Number of views.
        size: In bytes.
        largest_difference: Between a stored and a computed probability, or between features in units of their root mean
            square; None if none was computed again.
        rank: Number of this process, of those that have written together.
        grid_error: The largest of each error of a view's grid, see `distill.teachers.cache.grid_codec.ERRORS`; None if
            no grid is stored.
    """

    path: Path
    rows: int
    size: int
    largest_difference: float | None = None
    rank: int = 0
    grid_error: Mapping[str, float] | None = None


@call
def cache_teacher(
    config: str | os.PathLike | Config | Mapping,
    out: str | os.PathLike,
    data_root: DataRoot | None = None,
    *,
    teacher: Given | None = None,
    views: int | None = None,
    number: int | str = 0,
    topk: int | None = None,
    dtype: str = 'float16',
    grid_dims: int = GRID_DIMS,
    grid_dtype: str = 'int8',
    fit_views: int = FIT_VIEWS,
    verify: int = 0,
    launcher: str = 'none',
    engine: str | None = None,
    jobs: int | None = None,
    engine_options: Mapping[str, Any] | None = None,
    share: Share | None = None,
    progress: bool = True,
    cfg_options: Mapping[str, Any] | None = None,
    **overrides: Any,
) -> TeacherCache:
    """Write a teacher's predictions, or its features, for the views of a training config.

    The same as ``robust-backbones cache``. What an interrupted call has written is kept, and the rest is added.

    Args:
        config: That of the training, with a live teacher: a name, a path, or the config itself, see `train`.
        out: Folder of the cache.
        data_root: Folder of the data, in place of the config's; for images without labels also a list of sets, or a
            dictionary with the weight of each.
        teacher: In place of the config's teacher, as `train` takes it. The cache of a network of your own is known by
            the hash of its weights, and is read without the network.
        views: Views of each image, after which training starts again at the first; None for as many as it shows.
        number: Which teacher, from 0, if the config has a list; its name, if it has one. Each has a cache of its own.
        topk: Classes to store of each prediction; None for all.
        dtype: Precision of predictions and of pooled embeddings, ``float16`` or ``float32``.
        grid_dims: Components to store of each cell of a grid of features.
        grid_dtype: Their precision, ``int8`` or ``float16``.
        fit_views: Views of the sample on which the components are found.
        verify: Compute so many pairs of views again and compare.
        launcher: How the processes were started; they share the files out among them.
        engine: Spread the files over processes: ``local`` (this machine), ``slurm`` or ``ray``; None writes all here.
        jobs: How many processes; None for 2 here and 64 on a cluster.
        engine_options: Settings of the engine, as `distill.transfer` takes them.
        share: Write the share ``(i, n)`` of the files only, from ``(0, n)``, which begins, to ``(n - 1, n)``; a call
            without it writes what is missing, and completes the manifest.
        progress: Show a progress bar.
        cfg_options: Settings in place of the config's, as `train` takes them.
        **overrides: Settings in place of the config's, as `train` takes them.

    Returns:
        Where the cache is, and how large.

    Raises:
        FileNotFoundError: The config, the data or the teacher's checkpoint does not exist.
        ValueError: The config has no such live teacher, a number is out of range, the folder holds another cache, or
            the disk cannot hold it.
    """
    check_least(1, views=views, topk=topk, grid_dims=grid_dims, fit_views=fit_views)
    check_least(0, number=number if isinstance(number, int) else 0, verify=verify)
    for name, given, known in (('dtype', dtype, DTYPES), ('grid_dtype', grid_dtype, GRID_DTYPES)):
        if given not in known:
            raise ValueError(f"{name} '{given}' is unknown; choose from {', '.join(known)}")
    check_can_write(out, 'out', is_folder=True)
    check_share(share)
    if engine is not None and teacher is not None and not isinstance(teacher, (str, os.PathLike)):
        raise ValueError('a network of this process is given as the teacher, which others lack; save it to a file')
    folder = Path(out)
    settings, _ = load_config(experiment_of(config, data_root, None, {**(cfg_options or {}), **overrides}, launcher))
    init_default_scope('mmengine')
    join_processes(launcher)
    is_features = settings.model.get('type') == 'FeatureDistiller'
    with networks(settings, None, teacher):
        if share is None:  # Other shares are writing.
            remove_leftovers(folder)
        shown = progress and get_dist_info()[0] == 0
        console = screen(quiet=not shown)

        def tell(line: str) -> None:
            console.print(f'{folder}: {line}', highlight=False, soft_wrap=True)

        def bar(batches: Iterable, total: int) -> Iterable:
            return track(batches, 'predicting', total, console=console, disable=not shown)

        writer: CacheWriter | FeatureWriter
        if is_features:
            stored = Stored(dtype, topk, grid_dims, grid_dtype, fit_views)
            writer = FeatureWriter(settings, folder, views, stored, default_device(), number, tell, share)
        else:
            place = _number(number)
            writer = CacheWriter(settings, folder, views, topk, dtype, default_device(), place, tell, share)
        if engine is not None:
            told = dict(views=writer.views, topk=topk, dtype=dtype, grid_dims=grid_dims, grid_dtype=grid_dtype)
            told |= dict(fit_views=fit_views)
            words = ['cache', str(_written(settings, folder)), *as_words(dict(told, out=folder, teacher=number))]
            spread(words, folder, engine, jobs, engine_options, say=tell)
        writer.write(bar)
        difference = writer.verify(verify) if verify and writer.rank == 0 else None
        error = writer.grid_error if isinstance(writer, FeatureWriter) else None
        return TeacherCache(folder, writer.store.rows, writer.store.size_bytes, difference, writer.rank, error)


def _number(teacher: int | str) -> int:
    """The number of a teacher of predictions, which has no name."""
    if not str(teacher).isdigit():
        raise ValueError(f"teacher '{teacher}' is no number; give 0 for the first")
    return int(teacher)


def _written(settings: Config, folder: Path) -> Path:
    """The config with all that was set beside it, as a file for other processes."""
    path = folder / 'config.py'
    write_text(path, settings.pretty_text)
    return path
