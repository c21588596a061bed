"""The engine of Ray: commands are tasks of a cluster that runs, or of one that is started on this machine."""

import os
from typing import Any

from distill.jobs.command import KILLED, Command, Outcome

RESOURCES = ('num_gpus', 'memory', 'resources', 'scheduling_strategy', 'label_selector')
"""Options of a task that pass to Ray as they are."""


class RayEngine:
    """Run commands as tasks of Ray.

    A command whose worker is killed, or whose machine is gone, is started again as with every engine, see
    `distill.jobs.steps.run_steps`, and not by Ray beside that. All machines must reach the folders of the run and of
    the data, by the same paths.

    Args:
        threads: CPU threads that a command gets.
        address: Address of a cluster that runs, ``auto`` for the one of this machine; None starts one here, which ends
            with this process.
        **options: What each command gets: ``num_gpus``, ``memory`` (bytes), ``resources``, ….

    Raises:
        ValueError: There is no cluster at the address, or an option is unknown.
    """

    name = 'ray'

    def __init__(self, threads: int, address: str | None = None, **options: Any):
        # Ray would tell its makers how it is used.
        os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
        import ray

        if unknown := sorted(options.keys() - set(RESOURCES)):
            choices = ', '.join(('address', *RESOURCES))
            raise ValueError(f"engine 'ray' has no option '{unknown[0]}'; choose from {choices}")
        self.started = not ray.is_initialized()
        try:
            if self.started:
                ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level='ERROR')
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            line = ' '.join(str(error).split())
            raise ValueError(f"engine 'ray' finds no cluster at {address!r}: {line}") from None
        # A worker runs one command and ends: none meets what another has left.
        task = ray.remote(num_cpus=threads, max_retries=0, max_calls=1, **options)
        self.ray, self.task = ray, task(_run)

    def start(self, commands: list[tuple[Command, int]]) -> list['RayJob']:
        """Hand commands to Ray, which starts each when its resources are free."""
        return [RayJob(self.ray, self.task.remote(command)) for command, _ in commands]

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self.started:
            self.ray.shutdown()


class RayJob:
    """A command that Ray runs.

    Args:
        ray: The library.
        reference: What Ray knows the result by.
    """

    def __init__(self, ray: Any, reference: Any):
        self.ray, self.reference, self._outcome = ray, reference, None

    def poll(self) -> Outcome | None:
        """How the command has ended; None while it waits or runs."""
        if self._outcome is None and self.ray.wait([self.reference], timeout=0)[0]:
            try:
                self._outcome = Outcome(*self.ray.get(self.reference))
            except self.ray.exceptions.RayTaskError as error:  # The command did not start, such as for want of its log.
                raise ValueError(f'a task of Ray failed: {" ".join(str(error.cause).split())}') from None
            except self.ray.exceptions.RayError:  # Its worker was killed, or cancelled.
                self._outcome = Outcome(KILLED, 0.0)
        return self._outcome

    def cancel(self) -> None:
        """Take the command out of the queue, or end it."""
        self.ray.cancel(self.reference, force=True)


def _run(command: Command) -> Outcome:
    return command()
