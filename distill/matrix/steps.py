"""Run commands of this project that need one another: several at a time, and none that was done before."""

import itertools
import os
import queue
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

import torch

from distill.base.files import read_json, write_json
from distill.base.packaged import ROOT

SITE = ('site-packages', 'dist-packages')
"""Folders of installed packages, which Python searches by itself, after the standard library."""
FORMER_NAMES = {'make_data.py': 'data', 'cache_teacher.py': 'cache'}
"""Commands in the marks of earlier versions, which recorded a file of tools/; others have only lost their ending."""


@dataclass
class Step:
    """One command of this project.

    Attributes:
        name: Name for people, which its log bears too.
        command: A module of `distill.cli`, and its arguments.
        needs: Names of the steps that must be done before.
    """

    name: str
    command: list[str]
    needs: list[str] = field(default_factory=list)


@dataclass
class Workplace:
    """The folders and resources that steps run with.

    Attributes:
        logs: Folder for each step's log, and its mark when it is done.
        jobs: Number of steps that run at a time. With accelerators, each job has one of them, in turn.
        threads: CPU threads a step.
        launcher: Command that starts a step's own command, such as a cluster's ``srun --gpus=1``.
        again: Name of what the user runs again after a failure, for the error message.
    """

    logs: Path
    jobs: int = 2
    threads: int = 1
    launcher: Sequence[str] = ()
    again: str = 'the command'

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
    mark = place.mark(step.name)
    log = mark.with_suffix('.log')
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    environment = {**os.environ, 'OMP_NUM_THREADS': str(place.threads), 'COLUMNS': '120'}
    if ROOT.name not in SITE:  # A clone's commands run its own code, installed or not.
        environment['PYTHONPATH'] = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    if torch.cuda.is_available() and not place.launcher:
        environment.setdefault('CUDA_VISIBLE_DEVICES', str(slot % torch.cuda.device_count()))
    module = [f'distill.cli.{step.command[0]}', *step.command[1:]]
    with log.open('a') as file:
        file.write(f'$ python -m {shlex.join(module)}\n')
        file.flush()
        command = [*place.launcher, sys.executable, '-m', *module]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    if done.returncode != 0:
        last = log.read_text().strip().splitlines()[-1]
        raise ValueError(f"step '{step.name}' failed: {last} (see {log}); run {place.again} again to go on from here")
    seconds = time.monotonic() - start
    write_json(mark, {'command': step.command, 'seconds': seconds})
    return seconds


def run_steps(steps: Sequence[Step], place: Workplace, say: Callable[[str], None]) -> None:
    """Run steps, several at a time, each after those that it needs, the first in the list first.

    Args:
        steps: The steps; those that they need must be among them.
        place: Where they run.
        say: Called with a line of text when a step starts and ends.

    Raises:
        ValueError: A step failed. Running steps are waited for, and no others are started.
    """
    waiting, finished, start = list(steps), set(), time.monotonic()
    slots: queue.SimpleQueue[int] = queue.SimpleQueue()
    for slot in range(place.jobs):
        slots.put(slot)

    def run(step: Step) -> float:
        slot = slots.get()
        try:
            return run_step(step, place, slot)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(place.jobs) as pool:
        running: dict[Future, Step] = {}
        while waiting or running:
            ready = (step for step in waiting if finished.issuperset(step.needs))
            for step in list(itertools.islice(ready, place.jobs - len(running))):
                waiting.remove(step)
                say(f'[{time.monotonic() - start:5.0f} s] {step.name} …')
                running[pool.submit(run, step)] = step
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                seconds = future.result()
                finished.add(step.name)
                took = f'took {seconds:.0f} s' if seconds else 'was done before'
                say(f'[{time.monotonic() - start:5.0f} s] {step.name} {took}')
