"""Run commands of this project that need one another: several at a time, and none that was done before."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from distill.base.files import read_json, write_json
from distill.base.packaged import ROOT
from distill.matrix.processes import Running, fork, spawn

SITE = ('site-packages', 'dist-packages')
"""Folders of installed packages, which Python searches by itself, after the standard library."""
FORMER_NAMES = {'make_data.py': 'data', 'cache_teacher.py': 'cache'}
"""Commands in the marks of earlier versions, which recorded a file of tools/; others have only lost their ending."""
POLL_S = 0.1
"""Seconds from one look at the running steps to the next."""


@dataclass
class Step:
    """One command of this project.

    Attributes:
        name: Name for people, which its log bears too.
        command: A module of `distill.cli`, and its arguments.
        needs: Names of the steps that must be done before.
        says: What people are told that it does; its name if empty.
        expected_s: About how long it takes, for an estimate of what is left; only the proportions matter.
    """

    name: str
    command: list[str]
    needs: list[str] = field(default_factory=list)
    says: str = ''
    expected_s: float = 0.0


@dataclass
class Workplace:
    """The folders and resources that steps run with.

    Attributes:
        logs: Folder for each step's log, and its mark when it is done.
        jobs: Number of steps that run at a time. With accelerators, each job has one of them, in turn.
        threads: CPU threads a step.
        launcher: Command that starts a step's own command, such as a cluster's ``srun --gpus=1``.
        again: Name of what the user runs again after a failure, for the error message.
        forks: Start steps as forks of this process, which has imported what they need: seconds less for each.
    """

    logs: Path
    jobs: int = 2
    threads: int = 1
    launcher: Sequence[str] = ()
    again: str = 'the command'
    forks: bool = False

    def mark(self, name: str) -> Path:
        """The file that records the command and the time of a step that is done, by the step's name."""
        return self.logs / f'{name.replace(" ", "-")}.json'

    def is_done(self, step: Step) -> bool:
        """Whether this very command was run to its end before."""
        mark = self.mark(step.name)
        if not mark.is_file():
            return False
        tool, *arguments = read_json(mark)['command']
        return [FORMER_NAMES.get(tool, tool.removesuffix('.py')), *arguments] == step.command

    def seconds(self, name: str) -> float:
        """The time that a step took, by its name.

        Raises:
            FileNotFoundError: The step is not done.
        """
        return read_json(self.mark(name))['seconds']


def start_step(step: Step, place: Workplace, slot: int = 0) -> Running:
    """Start a step's command, whose output goes to its log.

    Args:
        step: The step.
        place: Where it runs.
        slot: Number of the job, from 0, which chooses the accelerator.
    """
    environment = {**os.environ, 'OMP_NUM_THREADS': str(place.threads), 'COLUMNS': '120'}
    if ROOT.name not in SITE:  # A clone's commands run its own code, installed or not.
        environment['PYTHONPATH'] = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    log = place.mark(step.name).with_suffix('.log')
    if place.forks:
        return fork(step.command, log, environment)
    if torch.cuda.is_available() and not place.launcher:
        environment.setdefault('CUDA_VISIBLE_DEVICES', str(slot % torch.cuda.device_count()))
    return spawn(step.command, log, environment, place.launcher)


def finish_step(step: Step, place: Workplace, running: Running) -> float:
    """Mark a step as done whose process is over; returns its time in seconds.

    Raises:
        ValueError: The command failed.
    """
    mark = place.mark(step.name)
    if running.status != 0:
        log = mark.with_suffix('.log')
        last = log.read_text().strip().splitlines()[-1]
        raise ValueError(f"step '{step.name}' failed: {last} (see {log}); run {place.again} again to go on from here")
    write_json(mark, {'command': step.command, 'seconds': running.seconds, 'cpu_seconds': running.cpu_s})
    return running.seconds or 0.0


def run_step(step: Step, place: Workplace, slot: int = 0) -> float:
    """Run a step's command, unless it has been done before, and log what it prints.

    Args:
        step: The step.
        place: Where it runs.
        slot: Number of the job, from 0, which chooses the accelerator.

    Returns:
        Time in seconds; 0 if the step had been done before.

    Raises:
        ValueError: The command failed.
    """
    if place.is_done(step):
        return 0.0
    running = start_step(step, place, slot)
    running.is_over(wait=True)
    return finish_step(step, place, running)


def run_steps(
    steps: Sequence[Step],
    place: Workplace,
    say: Callable[[str], None],
    found: Callable[[Step], str | None] = lambda step: None,
) -> None:
    """Run steps, several at a time, each after those that it needs, the first in the list first.

    Args:
        steps: The steps; those that they need must be among them.
        place: Where they run.
        say: Called with a line of text when a step starts and ends.
        found: Called with a step that is done; tells what came out, for people, or None.

    Raises:
        ValueError: A step failed. Running steps are waited for, and no others are started.
    """
    waiting, start = list(steps), time.monotonic()
    slots, running = list(range(place.jobs))[::-1], dict[int, tuple[Step, Running]]()
    finished: set[str] = set()
    rest = _Rest(steps, place.jobs)

    def tell(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - start), 60)
        say(f'[{minutes:3d}:{seconds:02d}] {text}')

    def end(step: Step, seconds: float) -> None:
        finished.add(step.name)
        rest.take(step, seconds)
        took = f'took {seconds:.0f} s{rest.words()}' if seconds else 'was done before'
        result = found(step)
        tell(f'{result} ({took})' if result else f'{step.says or step.name}: {took}')

    try:
        while waiting or running:
            for step in [step for step in waiting if finished.issuperset(step.needs)]:
                if place.is_done(step):
                    waiting.remove(step)
                    end(step, 0.0)
                elif slots:
                    waiting.remove(step)
                    tell(f'{step.says or step.name} …')
                    slot = slots.pop()
                    running[slot] = step, start_step(step, place, slot)
            for slot, (step, process) in list(running.items()):
                if process.is_over():
                    del running[slot]
                    slots.append(slot)
                    end(step, finish_step(step, place, process))
            if running:
                time.sleep(POLL_S)
    finally:
        for step, process in running.values():
            if process.is_over(wait=True) and process.status == 0:
                finish_step(step, place, process)


class _Rest:
    """An estimate of the time that is left, from the steps that are done.

    Args:
        steps: All steps.
        jobs: Number of steps that run at a time.
    """

    def __init__(self, steps: Sequence[Step], jobs: int):
        self.left_s = {step.name: step.expected_s for step in steps}
        self.jobs, self.expected_s, self.taken_s = jobs, 0.0, 0.0

    def take(self, step: Step, seconds: float) -> None:
        """Take away a step that is done, and how long it took; 0 if it had been done before."""
        expected_s = self.left_s.pop(step.name)
        if seconds:
            self.expected_s, self.taken_s = self.expected_s + expected_s, self.taken_s + seconds

    def words(self) -> str:
        """The time that is left, as the end of a sentence; '' where nothing is known or left."""
        left_s = sum(self.left_s.values())
        if not left_s or not self.expected_s:
            return ''
        left_s *= self.taken_s / self.expected_s / self.jobs
        return f'; about {left_s / 60:.0f} min left' if left_s > 90 else f'; about {max(left_s, 5):.0f} s left'
