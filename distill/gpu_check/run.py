"""Run the parts within their times, several beside one another, and keep every row that was reached."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from distill.base.files import write_json
from distill.gpu_check.machine import about
from distill.gpu_check.plan import ON_CPU, PARTS
from distill.gpu_check.rows import FAILED, NOT_REACHED, Row
from distill.gpu_check.starts import Worker, can_fork, prepare, start, stop

STARTS = 4
"""Workers that a part has at the most, one after the other: each crash costs the start of another."""
POLL_S = 0.2
FEWEST_S = 5.0
"""What a part is given at the least, if there is as much."""


@dataclass
class Running:
    """A part and the process that works on it.

    Attributes:
        part: Name of the part.
        budget_s: What it may take.
        deadline: When it is stopped, by `time.monotonic`.
        folder: For its data, its rows and its log.
        threads: Threads of torch in its process.
        device: Device of its checks.
        small: Sizes for the logic alone.
        fork: Whether its workers are forks, see `distill.gpu_check.starts`.
        only: Texts of which a check's name must hold one; empty for all checks.
        starts: Workers so far.
        process: The worker.
    """

    part: str
    budget_s: float
    deadline: float
    folder: Path
    threads: int
    device: str
    small: bool
    fork: bool
    only: Sequence[str] = ()
    starts: int = 0
    process: Worker | None = None
    names: list[str] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    begun: str = ''

    def start(self) -> None:
        """Start a worker for the checks that have no row yet."""
        self.starts += 1
        arguments = [self.part, str(self.folder / 'rows.jsonl')]
        arguments += ['--device', self.device, '--folder', str(self.folder / 'work'), '--threads', str(self.threads)]
        arguments += ['--budget-s', f'{self.budget_s:.1f}', *(['--small'] if self.small else [])]
        arguments += ['--done', *self.rows, '--only', *self.only]
        self.folder.mkdir(parents=True, exist_ok=True)
        # A process group of its own: its loaders and launched processes are stopped with it.
        self.process = start(arguments, self.folder / 'log.txt', environment(self.part, self.threads), self.fork)

    def read(self) -> None:
        """Read what the workers have written so far."""
        path = self.folder / 'rows.jsonl'
        self.begun = ''
        for line in path.read_text(encoding='utf-8').splitlines() if path.is_file() else ():
            try:
                record = json.loads(line)
            except ValueError:  # The line that a worker was stopped in.
                continue
            self.names = record.get('names', self.names)
            self.begun = record.get('begun', self.begun)
            if 'row' in record:
                self.rows[record['row']['name']] = Row(**record['row'])
                self.begun = ''

    def step(self) -> bool:
        """See how the worker is; returns whether the part has ended."""
        if self.process is None:
            self._give_up()
            return True
        self.read()
        status = self.process.poll()
        late = time.monotonic() > self.deadline
        if status is None and not late:
            return False
        self.stop()
        self.read()
        if late:
            self._give_up()
            return True
        if status and self.begun:
            cause = f'the process ended with status {status}'
            self.rows[self.begun] = Row(self.part, self.begun, FAILED, cause=cause, traceback=self.log()[-3000:])
        if status and not self.names:
            self.rows['start'] = Row(self.part, 'start', FAILED, cause=_last_line(self.log()), traceback=self.log())
            return True
        if any(name not in self.rows for name in self.names) and self.starts < STARTS:
            self.start()
            return False
        return True

    def _give_up(self) -> None:
        """Give the checks without a row one."""
        for name in self.names or ['start']:
            if name not in self.rows:
                runs = self.process is not None and (name == self.begun or not self.names)
                cause = 'stopped while it ran' if runs else ''
                self.rows[name] = Row(self.part, name, NOT_REACHED, cause=cause)

    def stop(self) -> None:
        """End the worker and what it has started."""
        if self.process is not None:
            stop(self.process)

    def found(self) -> list[Row]:
        """The rows so far, in the order of the checks."""
        return [self.rows[name] for name in [*self.names, *(set(self.rows) - set(self.names))] if name in self.rows]

    def log(self) -> str:
        """The end of what the part has printed."""
        path = self.folder / 'log.txt'
        return path.read_text(errors='replace')[-8000:] if path.is_file() else ''


@dataclass(frozen=True)
class Frame:
    """What a run of the check shares among its parts.

    Attributes:
        device: ``cuda`` or ``cpu``.
        parts: Names of all parts.
        whole_s: What they may take together.
        end: When all is stopped, by `time.monotonic`.
        folder: Of all parts.
        jobs: Parts beside one another.
        only: Texts of which a check's name must hold one; empty for all checks.
    """

    device: str
    parts: Sequence[str]
    whole_s: float
    end: float
    folder: Path
    jobs: int
    only: Sequence[str]

    def order(self) -> list[str]:
        """The parts in the order in which they begin."""
        if self.device == 'cuda':
            return list(self.parts)
        return sorted(self.parts, key=lambda part: ON_CPU.index(part) if part in ON_CPU else len(ON_CPU))

    def is_alone(self, part: str) -> bool:
        """Whether nothing may run beside a part: it measures the speed of a card."""
        return PARTS[part].alone and self.device == 'cuda'

    def has_room(self, part: str, running: Sequence[Running]) -> bool:
        """Whether a part can begin beside those that run."""
        alone = self.is_alone(part) or (running and self.is_alone(running[0].part))
        return not running or (len(running) < self.jobs and not alone)

    def begin(self, waiting: Sequence[str]) -> Running:
        """Begin the first of the parts that wait."""
        part = waiting[0]
        now = time.monotonic()
        budget_s = min(max(FEWEST_S, self.budget_s(waiting, self.end - now)), self.end - now)
        cpus = len(os.sched_getaffinity(0))
        threads = max(1, cpus if self.is_alone(part) else cpus // self.jobs)
        small = self.device == 'cpu'
        if small:  # Two threads that wait for each other take longer with such sizes than one.
            threads = 1
        folder, fork = self.folder / part, can_fork(self.device)
        one = Running(part, budget_s, now + budget_s, folder, threads, self.device, small, fork, self.only)
        if budget_s > 0:
            one.start()
        return one

    def budget_s(self, waiting: Sequence[str], left_s: float) -> float:
        """What the first of the parts that wait may take.

        A part that runs beside others has its share of the whole, so that those that measure speed have theirs, and
        these share what is left over. On the CPU, where the shortest come first, it is half of what is left, and all of
        it for the last.
        """
        if self.device == 'cpu':
            return left_s / min(len(waiting), 2)
        part = waiting[0]
        if PARTS[part].alone:
            return left_s * PARTS[part].share / sum(PARTS[one].share for one in waiting)
        weights = [PARTS[one].share / (1 if PARTS[one].alone else self.jobs) for one in self.parts]
        return self.whole_s * PARTS[part].share / sum(weights)


def run_parts(
    parts: Sequence[str],
    device: str,
    minutes: float,
    folder: Path,
    out: Path,
    jobs: int = 1,
    tell: Callable[[str], None] = print,
    only: Sequence[str] = (),
) -> dict:
    """Run parts of the check and write their rows, anew after each row.

    Args:
        parts: Names of `PARTS`.
        device: ``cuda`` or ``cpu``.
        minutes: What all may take together, on the CPU after the imports that they share.
        folder: An empty folder.
        out: The JSON file.
        jobs: Parts beside one another, apart from those that measure speed.
        tell: Called with a line for each row.
        only: Texts of which a check's name must hold one; empty for all checks.

    Returns:
        What the file holds: ``machine`` and ``rows``.
    """
    result = {'machine': about(device), 'minutes': minutes, 'parts': list(parts), 'rows': []}
    write_json(out, result)
    if can_fork(device):
        prepare(environment(parts[0], threads=1))
    begin = time.monotonic()
    frame = Frame(device, parts, 60 * minutes, begin + 60 * minutes, folder, jobs, only)
    waiting, running, ended = frame.order(), [], []
    while waiting or running:
        if waiting and frame.has_room(waiting[0], running):
            running.append(frame.begin(waiting))
            del waiting[0]
            continue
        for one in [one for one in running if one.step()]:
            running.remove(one)
            ended.append(one)
        rows = [row for one in [*ended, *running] for row in one.found()]
        if len(rows) > len(result['rows']):
            known = {(row['part'], row['name']) for row in result['rows']}
            for row in rows:
                if (row.part, row.name) not in known:
                    tell(line(row))
            result |= {'rows': [asdict(row) for row in rows], 'time_s': time.monotonic() - begin}
            write_json(out, result)
        time.sleep(POLL_S)
    result['time_s'] = time.monotonic() - begin
    write_json(out, result)
    return result


def environment(part: str, threads: int) -> dict[str, str]:
    """The environment of a part's workers.

    Args:
        part: Name of the part.
        threads: Threads of torch in a process.
    """
    repository = str(Path(__file__).parents[2])
    added = {'OMP_NUM_THREADS': str(threads), 'PYTHONUNBUFFERED': '1'}
    if not PARTS[part].alone:
        # cuBLAS is deterministic only with this, and runs are compared bit for bit.
        added['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'
    path = os.pathsep.join(filter(None, [repository, os.environ.get('PYTHONPATH')]))
    return {**os.environ, **added, 'PYTHONPATH': path}


def _last_line(text: str) -> str:
    lines = [one for one in text.splitlines() if one.strip()]
    return lines[-1][:500] if lines else 'the process said nothing'


def line(row: Row) -> str:
    """A row as a line of the table."""
    values = ', '.join(f'{key} {value:.3g}' for key, value in row.values.items() if isinstance(value, (int, float)))
    shown = row.cause if row.status != 'passed' else values
    return f'{row.part:<14}{row.name:<58} {row.status:<20}{row.time_s:>7.1f} s  {shown[:200]}'
