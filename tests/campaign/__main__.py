"""Run the campaign: python -m campaign --minutes 10, or --kills 300 --inputs 500.

Every trial follows from its seed: ``--only NUMBER --part PART`` does one again.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from campaign import ledger
from campaign.ledger import Trial
from campaign.stage import make_stage, preload


def build_parser() -> argparse.ArgumentParser:
    """The campaign's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=10, help='for all parts together (%(default)s)')
    parser.add_argument('--part', choices=('kills', 'inputs', 'hostile'), action='append', help='default: all')
    parser.add_argument('--kills', type=int, metavar='N', help='trials, whatever time they take')
    parser.add_argument('--inputs', type=int, metavar='N', help='trials, whatever time they take')
    parser.add_argument('--only', type=int, metavar='NUMBER', help='do one trial of the part')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/campaign'))
    return parser


def repeat(trial: Callable[[int], list[Trial]], count: int | None, seconds: float, jobs: int) -> list[Trial]:
    """Do trials 0, 1, 2, … until there are enough, or the time is over."""
    trials: list[Trial] = []
    end = time.monotonic() + seconds
    number = 0
    with ThreadPoolExecutor(jobs) as pool:
        while len(trials) < count if count is not None else time.monotonic() < end:
            # A batch at a time, so that little is left over once there are enough.
            for found in pool.map(trial, range(number, number + 4 * jobs)):
                trials += found
                for one in found:
                    if one.finding:
                        print(
                            f'FINDING {one.part}: {one.kind} on {one.target} (seed {one.seed}): {one.finding}',
                            flush=True,
                        )
            number += 4 * jobs
    return trials


def main() -> int:
    """Run the campaign; the exit status is 1 if it has found anything."""
    args = build_parser().parse_args()
    from campaign import breaks_configs, breaks_data, breaks_stored  # noqa: F401
    from campaign.bad_input import BadInput
    from campaign.hostile import TRICKS, Hostile
    from campaign.kills import kill

    preload()
    trials: list[Trial] = []
    parts = args.part or ['kills', 'inputs', 'hostile']
    with tempfile.TemporaryDirectory() as temporary:
        stage = make_stage(Path(temporary) / 'stage')
        seconds = 60 * args.minutes / len(parts)
        for part in parts:
            if part == 'kills':
                trial, count = kill(stage, Path(temporary) / 'kills', args.seed), args.kills
            elif part == 'inputs':
                trial, count = BadInput(stage, Path(temporary) / 'inputs', args.seed), args.inputs
            else:
                trial, count = Hostile(stage, Path(temporary) / 'hostile'), len(TRICKS)
            if args.only is not None:
                trials += trial(args.only)
                print(*trials, sep='\n')
            else:
                trials += repeat(trial, count, seconds, args.jobs)
    ledger.write(args.out / 'trials.jsonl', trials)
    (args.out / 'table.md').write_text(ledger.table(trials))
    print(ledger.table(trials))
    return int(any(trial.finding for trial in trials))


if __name__ == '__main__':
    sys.exit(main())
