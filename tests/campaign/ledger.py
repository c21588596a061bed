"""What was tried and what was found."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Trial:
    """One thing that was tried.

    Attributes:
        part: ``kills``, ``bad input`` or ``hostile files``.
        kind: What was done: a fault, or how an input was broken.
        target: What it was done to: a command, or a command and what it read.
        seed: With it the trial is done again.
        outcome: ``resumed``, ``refused``, ``mended``, ``harmless``, …; of a finding what is wrong.
        finding: Why the outcome is wrong; empty where it is right.
    """

    part: str
    kind: str
    target: str
    seed: int
    outcome: str
    finding: str = ''


def write(path: Path, trials: Sequence[Trial]) -> None:
    """Write all trials, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(asdict(trial), ensure_ascii=False) + '\n' for trial in trials))


def table(trials: Iterable[Trial]) -> str:
    """A Markdown table: a row for each kind of each part, with the number of trials, outcomes and findings."""
    rows: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in trials:
        rows[trial.part, trial.kind].append(trial)
    lines = ['| part | tried | on | trials | outcomes | findings |', '| --- | --- | --- | ---: | --- | ---: |']
    for (part, kind), tried in sorted(rows.items()):
        outcomes = Counter(trial.outcome for trial in tried if not trial.finding)
        listed = ', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common())
        targets = ', '.join(sorted({trial.target for trial in tried}))
        found = sum(bool(trial.finding) for trial in tried)
        lines.append(f'| {part} | {kind} | {targets} | {len(tried)} | {listed} | {found} |')
    return '\n'.join(lines) + '\n'
