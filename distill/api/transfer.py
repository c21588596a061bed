"""The transfer experiment: every student alone and with every teacher, measured and compared."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from backbones.files import atomic_write
from distill.api.checks import check_least
from distill.api.session import call
from distill.base.files import write_json
from distill.base.packaged import MATRIX, find
from distill.base.paths import check_can_write, check_is_folder
from distill.jobs.engines import JOBS, check_engine, open_engine
from distill.jobs.steps import Workplace, run_steps
from distill.matrix.collect import collect, to_markdown, to_tables
from distill.matrix.folder import alone_in
from distill.matrix.load import load_matrix
from distill.matrix.matrix import Matrix
from distill.matrix.plan import evaluations, score_folders, training, trainings
from distill.matrix.timing import epochs_at_equal_time, longer_runs
from distill.report.collect import collect as merge
from distill.results.files import write_results
from distill.results.schema import FILE_NAME


@dataclass(repr=False)
class TransferResult:
    """What a transfer experiment has found.

    Attributes:
        summary: Contents of ``transfer.json``: scores by group, and what was transferred, see `matrix.collect.collect`.
        tables: Titles, and rows of text of which the first names the columns.
        path: The file ``transfer.json``; ``transfer.md`` lies beside it.
    """

    summary: dict
    tables: list[tuple[str, list[list[str]]]]
    path: Path

    def __repr__(self) -> str:
        return f"<TransferResult '{self.path}': {len(self.summary['groups'])} groups of runs>"

    def __str__(self) -> str:
        return to_markdown(self.tables)

    def _repr_html_(self) -> str:
        """The tables, for notebooks."""
        parts = []
        for title, (head, *rows) in self.tables:
            lines = [f'<tr>{"".join(f"<th>{escape(cell)}</th>" for cell in head)}</tr>']
            lines += [f'<tr>{"".join(f"<td>{escape(cell)}</td>" for cell in row)}</tr>' for row in rows]
            parts.append(f'<p>{escape(title)}</p><table>{"".join(lines)}</table>')
        return ''.join(parts)


@call
def transfer(
    matrix: str | os.PathLike,
    data_root: str | os.PathLike | None = None,
    work_dir: str | os.PathLike | None = None,
    *,
    seeds: Sequence[int] | None = None,
    jobs: int | None = None,
    threads: int = 1,
    launcher: Sequence[str] = (),
    engine: str | None = None,
    engine_options: Mapping[str, Any] | None = None,
    forks: bool = False,
    say: Callable[[str], None] = print,
) -> TransferResult:
    """Train every student alone and with every teacher, measure all, and tell what was transferred.

    The same as ``robust-backbones transfer``. Each run is a process of its own; those that are done are not run again,
    and one whose process is killed is started again and goes on from its last checkpoint.

    Args:
        matrix: Path of a matrix config, or the name of one of ``distill/matrices``.
        data_root: Folder of the data, in place of the matrix's.
        work_dir: Where everything goes; ``work_dirs/<matrix name>`` if neither the call nor the matrix says.
        seeds: Some of the matrix's seeds, with the first: what they say is told sooner, and a later call with more of
            them, or with all, goes on from there.
        jobs: Runs at a time; with accelerators, one each. None for 2 here, and for 64 on a cluster.
        threads: CPU threads of a run.
        launcher: Command that starts each run, such as ``['env', 'NAME=value']``.
        engine: Where the runs are: ``local`` (this machine, as None), ``slurm`` or ``ray``.
        engine_options: Settings of the engine, such as ``dict(partition='gpu', gpus_per_node=1, timeout_min=720)``,
            see docs/scale.md.
        forks: Start runs as forks of this process, which imports what they need: seconds less for each. For a process
            that does nothing else, on Linux, without an accelerator and a `launcher`; other engines ignore it.
        say: Called with a line of text when a run starts and ends.

    Returns:
        Scores and differences.

    Raises:
        FileNotFoundError: The matrix, a config or the data does not exist.
        ValueError: The matrix contradicts itself, another experiment is in the folder, the engine is not there or
            refuses, or a run has failed.
    """
    engine = engine or 'local'
    check_engine(engine, engine_options or {})
    jobs = JOBS[engine] if jobs is None else jobs
    experiment, place = prepare(matrix, data_root, work_dir, jobs, threads, launcher, seeds)
    with alone_in(experiment.work_dir):
        place.engine = open_engine(engine, engine_options or {}, experiment.work_dir / engine, threads, jobs, forks)
        try:
            epochs = _run(experiment, place, say)
        finally:
            place.engine.close()
    summary = collect(experiment, epochs)
    judged = score_folders(experiment, [*experiment.alone(), *longer_runs(experiment, epochs), *experiment.taught()])
    write_results(experiment.work_dir / FILE_NAME, merge(judged, experiment.work_dir))
    path = experiment.work_dir / 'transfer.json'
    write_json(path, summary)
    tables = to_tables(summary)
    with atomic_write(experiment.work_dir / 'transfer.md') as temporary:
        temporary.write_text(to_markdown(tables))
    return TransferResult(summary, tables, path)


def transfer_plan(
    matrix: str | os.PathLike,
    data_root: str | os.PathLike | None = None,
    work_dir: str | os.PathLike | None = None,
    seeds: Sequence[int] | None = None,
) -> list[tuple[str, bool]]:
    """The steps of a transfer experiment up to equal epochs, and whether each is done.

    Args:
        matrix: As for `transfer`.
        data_root: As for `transfer`.
        work_dir: As for `transfer`.
        seeds: As for `transfer`.
    """
    experiment, place = prepare(matrix, data_root, work_dir, seeds=seeds)
    return [(step.name, place.is_done(step)) for step in trainings(experiment)]


def prepare(
    matrix: str | os.PathLike,
    data_root: str | os.PathLike | None,
    work_dir: str | os.PathLike | None,
    jobs: int = 2,
    threads: int = 1,
    launcher: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> tuple[Matrix, Workplace]:
    """The experiment, and the place where its commands run."""
    path = find(os.fspath(matrix), MATRIX)
    if data_root is not None:
        check_is_folder(data_root, 'data root', 'make the data or pass another data_root')
    check_can_write(work_dir, 'work_dir', is_folder=True)
    check_least(1, jobs=jobs, threads=threads)
    folders = [os.fspath(folder) if folder is not None else None for folder in (data_root, work_dir)]
    experiment = load_matrix(path, *folders, seeds)
    place = Workplace(experiment.work_dir / 'logs', jobs, threads, list(launcher), again='the experiment')
    return experiment, place


def _run(matrix: Matrix, place: Workplace, say: Callable[[str], None]) -> dict[str, int]:
    """Train and evaluate all runs that are not done yet.

    Args:
        matrix: The experiment.
        place: Where its commands run.
        say: Called with a line of text when a command starts and ends.

    Returns:
        For each group of taught runs the epochs that its student alone has time for, if the matrix asks for equal time.
    """
    run_steps(trainings(matrix), place, say)
    epochs = epochs_at_equal_time(matrix, place) if matrix.equal_time else {}
    more = longer_runs(matrix, epochs)
    run_steps([training(matrix, run) for run in more], place, say)
    run_steps(evaluations(matrix, [*matrix.alone(), *more, *matrix.taught()]), place, say)
    return epochs
