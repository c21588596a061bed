"""Kills: a command that is stopped at a random moment and started again ends with the bytes of one that was not."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import processes
import torch
from safetensors.torch import load_file

from backbones.checkpoint import weights_sha256
from backbones.weights.checkpoint_file import read_checkpoint
from campaign.ledger import Trial
from campaign.stage import (
    CLASSIFIER,
    DETECTION,
    DETECTOR,
    STEPWISE,
    STUDENT,
    Stage,
    cache_arguments,
    finish,
    hashes,
    run,
)

PART = 'kills'
FAULTS = {'kill -9': signal.SIGKILL, 'SIGTERM': signal.SIGTERM, 'no space left': None}
PAGE_BYTES = 4096
"""What the smallest file takes in memory."""
STOPS = 3
"""Stops of one piece of work before it may end."""


@dataclass(frozen=True)
class Work:
    """A command that writes files, and goes on with what it has written when it is started again.

    Attributes:
        name: In the table.
        command: A module of `distill.cli`.
        arguments: The command line, for an output folder; its second argument says whether to go on.
        results: What must be equal in the end, by name, of an output folder.
    """

    name: str
    command: str
    arguments: Callable[[Path, bool], list]
    results: Callable[[Path], dict[str, str]]


def works(stage: Stage) -> list[Work]:
    """The commands that are stopped."""
    imagenet, coco = stage.data / 'imagenet', stage.data / 'coco'
    sizes = ['--train', 120, '--val', 40, '--shifted', 20, '--scene-size', 64, '--scenes-train', 8, '--scenes-val', 4]
    judge = ['--data-root', imagenet, '--workers', 0, '--corruption-limit', 8]

    def train(config: Path, data: Path, options: list[str]) -> Callable[[Path, bool], list]:
        # The folder's newest checkpoint, or a start where there is none yet.
        return lambda out, again: stage.train(config, data, out, options, *(['--resume'] if again else []))

    return [
        Work('data making', 'data', lambda out, again: [out, *sizes], hashes),
        Work('cache writing', 'cache', lambda out, again: cache_arguments(stage, imagenet, out), hashes),
        Work('distillation', 'train', train(STUDENT, imagenet, CLASSIFIER + STEPWISE), trained),
        Work('detection', 'train', train(DETECTOR, coco, DETECTION + STEPWISE), trained),
        Work(
            'robustness run',
            'robustness',
            lambda out, again: [stage.root / 'student/student_best.pth', *judge, '--out', out],
            judged,
        ),
        Work('report', 'report', lambda out, again: [stage.root / 'judged', '--out', out], hashes),
    ]


def trained(out: Path) -> dict[str, str]:
    """Hashes of what training leaves: the tensors of checkpoints, and the records beside them."""
    found = {}
    for path in sorted([*out.glob('*.pth'), *out.glob('*.safetensors')]):
        content = read_checkpoint(path)
        parts = {key: content[key] for key in ('state_dict', 'ema_state_dict') if key in content} or {'': content}
        found |= {f'{path.name} {name}': weights_sha256(weights) for name, weights in parts.items()}
    return found | {path.name: path.read_text() for path in sorted(out.glob('student_best.json'))}


def judged(out: Path) -> dict[str, str]:
    """What an evaluation leaves, but for its times."""
    results = json.loads((out / 'results.json').read_text())
    results.pop('provenance', None)
    rest = {name: digest for name, digest in hashes(out).items() if name != 'results.json'}
    return rest | {'results.json': json.dumps(without_times(results), sort_keys=True)}


def without_times(value: object) -> object:
    """A tree of plain values without the keys that hold times."""
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if not key.endswith(('_s', 'time', 'date'))}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def broken_files(out: Path) -> list[str]:
    """Files that were left half written under their own names."""
    broken = []
    for path in out.rglob('*'):
        if path.name.startswith('.') or not path.is_file():
            continue
        try:
            if path.suffix == '.pth':
                torch.load(path, weights_only=True)
            elif path.suffix == '.safetensors':
                load_file(path)
            elif path.suffix == '.json' and path.name == path.stem + '.json' and 'vis_data' not in path.parts:
                json.loads(path.read_text())
        except Exception as error:
            broken.append(f'{path.name}: {type(error).__name__}')
    return broken


def can_mount() -> bool:
    """Whether a file system of a few bytes can be made here, which takes the rights of root."""
    return os.geteuid() == 0 and shutil.which('mount') is not None


@contextlib.contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[None]:
    """A folder that is a file system of its own, of some KiB, and then of enough."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size_kib}k', 'tmpfs', folder], check=True)
    try:
        yield
    finally:
        subprocess.run(['umount', '-l', folder], check=True)


def stop_and_go_on(stage: Stage, work: Work, whole: dict[str, str], time_s: float, out: Path, seed: int) -> list[Trial]:
    """Stop a piece of work some times at random moments, have it end, and compare.

    Args:
        stage: What the command reads.
        work: The work.
        whole: The results of work that was not stopped.
        time_s: How long that took.
        out: Its output folder.
        seed: Of the moments and faults.

    Returns:
        A trial for each stop.
    """
    rng = random.Random(f'{work.name} {seed}')
    faults = [name for name in FAULTS if FAULTS[name] is not None]
    trials, findings = [], []
    for _ in range(STOPS):
        fault = rng.choice(faults)
        started = processes.start(work.command, work.arguments(out, True))
        time.sleep(rng.uniform(0, time_s))
        ended = not started.process.is_alive()
        if not ended:
            os.kill(started.process.pid, FAULTS[fault])
        status, output = finish(started, 120)
        if ended and status != 0:
            findings.append(f'went on to exit status {status}: {output[-300:]}')
        findings += broken_files(out)
        trials.append((fault, 'ended before' if ended else 'resumed'))
    return _conclude(work, whole, out, seed, trials, findings)


def fill_disk(stage: Stage, work: Work, whole: dict[str, str], size_kib: int, out: Path, seed: int) -> list[Trial]:
    """Run a piece of work on a disk that is too small, make room, have it end, and compare; see `stop_and_go_on`."""
    rng, findings, fault = random.Random(f'space {work.name} {seed}'), [], 'no space left'
    with small_disk(out, max(4, int(rng.uniform(0.02, 0.98) * size_kib))):
        status, output = run(work.command, work.arguments(out, True))
        if status == 0:
            return []
        if 'Traceback' in output or status is None or status < 0:
            findings.append(f'no line about space, but exit status {status}: {output[-600:]}')
        findings += broken_files(out)
        subprocess.run(['mount', '-o', 'remount,size=200m', out], check=True)
        return _conclude(work, whole, out, seed, [(fault, 'resumed')], findings)


def _conclude(work: Work, whole: dict, out: Path, seed: int, trials: list, findings: list[str]) -> list[Trial]:
    status, output = run(work.command, work.arguments(out, True))
    if status != 0:
        findings.append(f'does not go on: exit status {status}: {output[-600:]}')
    else:
        found = work.results(out)
        differing = sorted(name for name in {*whole, *found} if whole.get(name) != found.get(name))
        if differing:
            findings.append(f'ends with other results: {", ".join(differing[:5])}')
    left = [path.name for path in out.rglob('.*') if path.is_file()]
    if left:
        findings.append(f'leaves {", ".join(left[:5])}')
    return [
        Trial(PART, fault, work.name, seed, outcome, '; '.join(findings)[:1500] if place == 0 else '')
        for place, (fault, outcome) in enumerate(trials)
    ]


def kill(stage: Stage, folder: Path, seed: int, names: list[str] | None = None) -> Callable[[int], list[Trial]]:
    """Prepare the kills.

    Args:
        stage: What the commands read.
        folder: Where they write.
        seed: Of the campaign.
        names: Work to stop; None for all.

    Returns:
        A function of a number that stops one piece of work, and returns its trials.
    """
    chosen = [work for work in works(stage) if names is None or work.name in names]
    wholes = {}
    for work in chosen:
        out = folder / f'whole {work.name}'
        run(work.command, work.arguments(out, False))
        shutil.rmtree(out)
        start = time.monotonic()
        status, output = run(work.command, work.arguments(out, False))
        if status != 0:
            raise RuntimeError(f'{work.name} fails when nothing stops it: {output[-2000:]}')
        size_kib = sum(-(-path.stat().st_size // PAGE_BYTES) for path in out.rglob('*')) * PAGE_BYTES >> 10
        wholes[work.name] = work.results(out), time.monotonic() - start, size_kib

    def trial(number: int) -> list[Trial]:
        work = chosen[number % len(chosen)]
        whole, time_s, size_kib = wholes[work.name]
        out = folder / f'{number:05d}'
        if number // len(chosen) % 4 == 3 and can_mount():
            trials = fill_disk(stage, work, whole, size_kib, out, seed + number)
        else:
            trials = stop_and_go_on(stage, work, whole, time_s, out, seed + number)
        shutil.rmtree(out, ignore_errors=True)
        return trials

    return trial
