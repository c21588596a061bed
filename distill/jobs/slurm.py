"""The engine of Slurm, through submitit: commands that are ready together are one array of jobs.

A command that is preempted, or reaches its time limit, is put back into the queue and goes on from its last checkpoint.
submitit's own files, with what each job prints before its command starts, lie in one folder; the output of a command
is in the log of its step, as with every engine.
"""

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any

from distill.base.files import read_json, write_json
from distill.jobs.command import KILLED, Command, Outcome

CLUSTERS = ('slurm', 'local')
"""``local`` is submitit's executor for trying things on one machine."""
OPTIONS = {'timeout_min': 1440, 'name': 'robust-backbones'}
"""What jobs get unless a user says otherwise; submitit's own time limit is 5 minutes."""
LOOK_EVERY_S = 2.0
"""Seconds between two looks for the result of one job, each of which reads a shared disk."""
ASK_EVERY_S = 30.0
"""Seconds between two questions to Slurm whether it still knows one job."""


class SlurmEngine:
    """Run commands as jobs of Slurm.

    Args:
        folder: Folder for submitit's files, which all nodes reach.
        threads: CPU threads that a command gets.
        jobs: Jobs of one array that run at a time.
        cluster: ``slurm``; or ``local``, submitit's executor for trying things on one machine.
        max_timeouts: How often a job goes on after its time limit.
        **options: Of submitit's ``AutoExecutor.update_parameters``: ``timeout_min``, ``gpus_per_node``, ``mem_gb``,
            and with ``slurm_`` in front those of sbatch, ``slurm_partition``, ``slurm_account``, …; the ``slurm_`` may
            be left out.

    Raises:
        ValueError: There is no Slurm here, or an option is unknown.
    """

    name = 'slurm'

    def __init__(
        self, folder: Path, threads: int, jobs: int, cluster: str = 'slurm', max_timeouts: int = 10, **options: Any
    ):
        import submitit
        from submitit.auto.auto import AutoExecutor

        if cluster not in CLUSTERS:
            raise ValueError(f"cluster '{cluster}' is unknown; choose from {', '.join(CLUSTERS)}")
        try:
            number = {f'{cluster}_max_num_timeout': max_timeouts}
            self.executor = submitit.AutoExecutor(folder.resolve(), cluster=cluster, **number)
        except RuntimeError:
            raise ValueError(
                "engine 'slurm' finds no srun; start the command on a machine of the cluster, or try it here by the "
                'engine option cluster=local'
            ) from None
        self.submitted, self.queues = folder / 'submitted.json', cluster == 'slurm'
        common = set(AutoExecutor._typed_parameters())
        given = {key if key in common or key.startswith('slurm_') else f'slurm_{key}': options[key] for key in options}
        parallel = {'slurm_array_parallelism': jobs}
        try:
            self.executor.update_parameters(**{**OPTIONS, **parallel, 'cpus_per_task': threads, **given})
        except (NameError, ValueError, TypeError) as error:
            raise ValueError(f"engine 'slurm' does not take its options: {_one_line(error)}") from None

    def start(self, commands: list[tuple[Command, int]]) -> list['SlurmJob']:
        """Submit commands, as one array if they are several.

        Raises:
            ValueError: Slurm refuses; the message has its answer.
        """
        known = read_json(self.submitted) if self.submitted.is_file() else {}
        jobs = {command.log: self._running(command, known.get(command.log)) for command, _ in commands}
        new = [command for command, _ in commands if jobs[command.log] is None]
        try:
            with self.executor.batch() if new else contextlib.nullcontext():
                found = [self.executor.submit(command) for command in new]
            jobs |= {command.log: SlurmJob(job, self.queues) for command, job in zip(new, found, strict=True)}
        except Exception as error:
            answer = getattr(error.__cause__, 'stderr', None) or getattr(error, 'stderr', None) or error
            raise ValueError(f"engine 'slurm' cannot submit: {_one_line(answer)}") from None
        ids = {command.log: [jobs[command.log].job.job_id, list(command.words)] for command, _ in commands}
        write_json(self.submitted, known | ids)
        return [jobs[command.log] for command, _ in commands]

    def _running(self, command: Command, before: tuple[str, list[str]] | None) -> 'SlurmJob | None':
        """The job of this very command that was submitted before, if the queue still has it.

        Another job beside it would write the same folder. A job of another command that had the same log is none.

        Args:
            command: The command.
            before: Number and words of the job that had the command's log; None if there was none.
        """
        from submitit.slurm.slurm import SlurmJob as JobOfSlurm

        if before is None or before[1] != list(command.words) or not self.queues or not is_queued(before[0]):
            return None
        return SlurmJob(JobOfSlurm(self.executor.folder, before[0]), self.queues)

    def close(self) -> None:
        """Nothing is held."""


class SlurmJob:
    """A command that Slurm runs.

    Its result is a file. Slurm's accounting, which submitit would ask for the job's state, is missing on many small
    clusters; the queue is not.

    Args:
        job: The job of submitit.
        queued: Whether Slurm's queue has it, and not submitit's executor for one machine.
    """

    def __init__(self, job: Any, queued: bool):
        self.job, self.queued, self._outcome = job, queued, None
        self._looked = self._asked = time.monotonic()
        self._is_missing = False

    def poll(self) -> Outcome | None:
        """How the command has ended; None while it waits or runs."""
        if self._outcome is None and time.monotonic() - self._looked > LOOK_EVERY_S:
            self._looked = time.monotonic()
            if self.job.paths.result_pickle.exists():
                self._outcome = self._result()
            elif self._is_gone():
                self._outcome = Outcome(KILLED, 0.0)
        return self._outcome

    def _is_gone(self) -> bool:
        """Whether the job has ended without a result."""
        if not self.queued:
            return self.job.done() and not self.job.paths.result_pickle.exists()
        if time.monotonic() - self._asked < ASK_EVERY_S:
            return False
        self._asked = time.monotonic()
        # Twice: a result may come late through a shared disk.
        was_missing, self._is_missing = self._is_missing, not is_queued(self.job.job_id)
        return was_missing and self._is_missing

    def _result(self) -> Outcome:
        import submitit

        try:
            return Outcome(*self.job.result())
        except submitit.core.utils.UncompletedJobError:
            return Outcome(KILLED, 0.0)
        except submitit.core.utils.FailedJobError as error:
            where = f'job {self.job.job_id} failed (see {self.job.paths.stderr})'
            raise ValueError(f'{where}: {_one_line(error)}') from None

    def cancel(self) -> None:
        """Take the job out of the queue, or end it."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self.job.cancel(check=False)


def is_queued(job_id: str) -> bool:
    """Whether Slurm's queue knows a job: it waits, runs, or is to run again."""
    words = ['squeue', '--noheader', '--format=%T', '--jobs', job_id]
    answer = subprocess.run(words, capture_output=True, text=True)
    return 'Invalid job id' not in answer.stderr if answer.returncode else bool(answer.stdout.strip())


def _one_line(said: object) -> str:
    """What a library or a command has said, in one line."""
    text = said.decode(errors='replace') if isinstance(said, bytes) else str(said)
    return ' '.join(text.split())
