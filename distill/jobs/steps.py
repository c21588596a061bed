"""Run commands of this project that need one another: several at a time, and none that was done before."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.base.files import read_json, write_json
from distill.jobs.command import Command, Engine, Job, Outcome, own_code
from distill.jobs.local import LocalEngine

FORMER_NAMES = {'make_data.py': 'data', 'cache_teacher.py': 'cache'}
"""Commands in the marks of earlier versions, which recorded a file of tools/; others have only lost their ending."""
POLL_S = 0.1
"""Seconds from one look at the running steps to the next."""
RESTARTS = 2
"""How often a step is started again whose process was killed."""


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
        engine: What starts the steps.
    """

    logs: Path
    jobs: int = 2
    threads: int = 1
    launcher: Sequence[str] = ()
    again: str = 'the command'
    engine: Engine = field(default_factory=LocalEngine)

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

    def command(self, step: Step) -> Command:
        """A step's command, whose output goes to its log."""
        environment = {'OMP_NUM_THREADS': str(self.threads), 'COLUMNS': '120', **own_code()}
        log = self.mark(step.name).with_suffix('.log')
        return Command(tuple(step.command), str(log.resolve()), environment, tuple(self.launcher))

    def finish(self, step: Step, outcome: Outcome) -> float:
        """Mark a step as done whose command has ended; returns its time in seconds.

        Raises:
            ValueError: The command failed.
        """
        mark = self.mark(step.name)
        if outcome.status != 0:
            log = mark.with_suffix('.log')
            lines = log.read_text().strip().splitlines() if log.is_file() else []
            # The first line of a log is the command itself: one that was killed at once has said nothing.
            what = f'its process was killed (signal {-outcome.status})' if outcome.was_killed else (lines or ['?'])[-1]
            raise ValueError(
                f"step '{step.name}' failed: {what} (see {log}); run {self.again} again to go on from here"
            )
        write_json(mark, {'command': step.command, 'seconds': outcome.seconds, 'cpu_seconds': outcome.cpu_s})
        return outcome.seconds


def run_steps(
    steps: Sequence[Step],
    place: Workplace,
    say: Callable[[str], None],
    found: Callable[[Step], str | None] = lambda step: None,
) -> None:
    """Run steps, several at a time, each after those that it needs, the first in the list first.

    A step whose process is killed, as by a machine that is taken away, is started again, `RESTARTS` times; all
    commands of this project go on where they were.

    Args:
        steps: The steps; those that they need must be among them.
        place: Where they run.
        say: Called with a line of text when a step starts and ends.
        found: Called with a step that is done; tells what came out, for people, or None.

    Raises:
        ValueError: A step failed. Running steps are waited for, and no others are started.
    """
    _Pool(steps, place, say, found).run()


class _Pool:
    """The steps of `run_steps`: those that wait, those that run, those that are done."""

    def __init__(self, steps: Sequence[Step], place: Workplace, say: Callable, found: Callable):
        self.waiting, self.place, self.say, self.found = list(steps), place, say, found
        self.slots = list(range(place.jobs))[::-1]
        self.running: dict[int, tuple[Step, Job]] = {}
        self.finished: set[str] = set()
        self.kills: dict[str, int] = {}
        self.rest, self.start_s = _Rest(steps, place.jobs), time.monotonic()

    def run(self) -> None:
        """Run all steps."""
        try:
            while self.waiting or self.running:
                self._start(self._ready())
                self._look()
                if self.running:
                    time.sleep(POLL_S)
        except KeyboardInterrupt:
            for _, job in self.running.values():
                job.cancel()
            raise
        finally:
            self._wait()

    def _ready(self) -> list[Step]:
        """The steps to be started now. Those that were done before are taken away."""
        ready: list[Step] = []
        for step in [step for step in self.waiting if self.finished.issuperset(step.needs)]:
            if self.place.is_done(step):
                self.waiting.remove(step)
                self._end(step, 0.0)
            elif len(ready) < len(self.slots):
                self.waiting.remove(step)
                ready.append(step)
        return ready

    def _start(self, steps: Sequence[Step]) -> None:
        if not steps:
            return
        for step in steps:
            self._tell(f'{step.says or step.name} …')
        slots = [self.slots.pop() for _ in steps]
        commands = [(self.place.command(step), slot) for step, slot in zip(steps, slots, strict=True)]
        for step, slot, job in zip(steps, slots, self.place.engine.start(commands), strict=True):
            self.running[slot] = step, job

    def _look(self) -> None:
        """Take up the steps that have ended since the last look."""
        for slot, (step, job) in list(self.running.items()):
            outcome = job.poll()
            if outcome is None:
                continue
            del self.running[slot]
            self.slots.append(slot)
            kills = self.kills.get(step.name, 0)
            if outcome.was_killed and kills < RESTARTS:
                self.kills[step.name] = kills + 1
                self.waiting.insert(0, step)
                self._tell(f'{step.says or step.name}: its process was killed (signal {-outcome.status}); again …')
            else:
                self._end(step, self.place.finish(step, outcome))

    def _end(self, step: Step, seconds: float) -> None:
        self.finished.add(step.name)
        self.rest.take(step, seconds)
        took = f'took {seconds:.0f} s{self.rest.words()}' if seconds else 'was done before'
        result = self.found(step)
        self._tell(f'{result} ({took})' if result else f'{step.says or step.name}: {took}')

    def _tell(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.start_s), 60)
        self.say(f'[{minutes:3d}:{seconds:02d}] {text}')

    def _wait(self) -> None:
        """Wait for the steps that run, after a failure of another."""
        while self.running:
            for slot, (step, job) in list(self.running.items()):
                if (outcome := job.poll()) is not None:
                    del self.running[slot]
                    if outcome.status == 0:
                        self.place.finish(step, outcome)
            if self.running:
                time.sleep(POLL_S)


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
