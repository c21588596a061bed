"""Run the parts within their times, several beside one another, and keep every row that was reached."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from distill.base.files import write_json
from distill.gpu_check.machine import about
from distill.gpu_check.plan import PARTS
from distill.gpu_check.rows import FAILED, NOT_REACHED, Row

STARTS = 4
"""Workers that a part has at the most, one after the other: each crash costs the start of another."""
POLL_S = 0.2


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
    only: Sequence[str] = ()
    starts: int = 0
    process: subprocess.Popen | None = None
    names: list[str] = field(default_factory=list)
    rows: dict[str, Row] = field(default_factory=dict)
    begun: str = ''

    def start(self) -> None:
        """Start a worker for the checks that have no row yet."""
        self.starts += 1
        command = [sys.executable, '-m', 'distill.gpu_check.worker', self.part, str(self.folder / 'rows.jsonl')]
        command += ['--device', self.device, '--folder', str(self.folder / 'work'), '--threads', str(self.threads)]
        command += ['--budget-s', f'{self.budget_s:.1f}', *(['--small'] if self.small else [])]
        command += ['--done', *self.rows, '--only', *self.only]
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / 'log.txt', 'a') as log:
            # A process group of its own: its loaders and launched processes are stopped with it.
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, process_group=0, env=self._environment()
            )

    def _environment(self) -> dict[str, str]:
        repository = str(Path(__file__).parents[2])
        added = {'OMP_NUM_THREADS': str(self.threads), 'PYTHONUNBUFFERED': '1'}
        if not PARTS[self.part].alone:
            # cuBLAS is deterministic only with this, and runs are compared bit for bit.
            added['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'
        path = os.pathsep.join(filter(None, [repository, os.environ.get('PYTHONPATH')]))
        return {**os.environ, **added, 'PYTHONPATH': path}

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
        assert self.process is not None
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
                cause = 'stopped while it ran' if name == self.begun or not self.names else ''
                self.rows[name] = Row(self.part, name, NOT_REACHED, cause=cause)

    def stop(self) -> None:
        """End the worker and what it has started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def found(self) -> list[Row]:
        """The rows so far, in the order of the checks."""
        return [self.rows[name] for name in [*self.names, *(set(self.rows) - set(self.names))] if name in self.rows]

    def log(self) -> str:
        """The end of what the part has printed."""
        path = self.folder / 'log.txt'
        return path.read_text(errors='replace')[-8000:] if path.is_file() else ''


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
        minutes: What all may take together.
        folder: An empty folder.
        out: The JSON file.
        jobs: Parts beside one another, apart from those that measure speed.
        tell: Called with a line for each row.
        only: Texts of which a check's name must hold one; empty for all checks.

    Returns:
        What the file holds: ``machine`` and ``rows``.
    """
    start = time.monotonic()
    result = {'machine': about(device), 'minutes': minutes, 'parts': list(parts), 'rows': []}
    write_json(out, result)
    end = start + 60 * minutes
    waiting, running, ended = list(parts), [], []
    shares = sum(PARTS[part].share / (1 if PARTS[part].alone else jobs) for part in parts)
    while waiting or running:
        if waiting and len(running) < jobs and not _must_wait(waiting[0], running):
            share = PARTS[waiting[0]].share / shares
            if PARTS[waiting[0]].alone:  # What the parts before have left over is for all that follow.
                share = (end - time.monotonic()) / (60 * minutes) * _share_of_rest(waiting)
            running.append(_begin(waiting.pop(0), device, 60 * minutes * share, end, folder, jobs, only))
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
            result |= {'rows': [asdict(row) for row in rows], 'time_s': time.monotonic() - start}
            write_json(out, result)
        time.sleep(POLL_S)
    result['time_s'] = time.monotonic() - start
    write_json(out, result)
    return result


def _share_of_rest(waiting: Sequence[str]) -> float:
    """The share of the first of the parts that wait, each of which measures speed."""
    return PARTS[waiting[0]].share / sum(PARTS[part].share for part in waiting)


def _must_wait(part: str, running: Sequence[Running]) -> bool:
    return bool(running) and (PARTS[part].alone or PARTS[running[0].part].alone)


def _begin(
    part: str, device: str, budget_s: float, end: float, folder: Path, jobs: int, only: Sequence[str]
) -> Running:
    now = time.monotonic()
    budget_s = max(1.0, min(budget_s, end - now))
    cpus = len(os.sched_getaffinity(0))
    threads = max(1, cpus if PARTS[part].alone else cpus // jobs)
    one = Running(part, budget_s, now + budget_s, folder / part, threads, device, device == 'cpu', only)
    one.start()
    return one


def _last_line(text: str) -> str:
    lines = [one for one in text.splitlines() if one.strip()]
    return lines[-1][:500] if lines else 'the process said nothing'


def line(row: Row) -> str:
    """A row as a line of the table."""
    values = ', '.join(f'{key} {value:.3g}' for key, value in row.values.items() if isinstance(value, (int, float)))
    shown = row.cause if row.status != 'passed' else values
    return f'{row.part:<13}{row.name:<50} {row.status:<20}{row.time_s:>7.1f} s  {shown[:200]}'
