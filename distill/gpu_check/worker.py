"""One part in a process of its own: ``python -m distill.gpu_check.worker PART ROWS …``.

An error that poisons the card, or a crash, so ends one process; what is left begins in another one. Each row is
written as soon as it is known.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

import torch

from distill.base.files import to_plain
from distill.gpu_check.rows import PASSED, Check, Row, Setting

POISONED = 3
"""Exit status of a worker whose card takes no more work."""


def checks_of(part: str, setting: Setting) -> list[Check]:
    """The checks of a part, by the module of its name."""
    return importlib.import_module(f'distill.gpu_check.{part}').checks(setting)


def is_wanted(name: str, only: Sequence[str]) -> bool:
    """Whether a check's name holds one of some texts, or there are none."""
    return not only or any(text in name for text in only)


def run_check(part: str, check: Check) -> Row:
    """Run a check, whatever it raises."""
    row, start = Row(part, check.name, PASSED), time.perf_counter()
    try:
        row.values = dict(check.run())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        row.take(error)
    row.time_s = time.perf_counter() - start
    return row


def main(argv=None) -> int:
    """Run the checks of a part that are not done yet; returns `POISONED` if the card took no more work."""
    parser = argparse.ArgumentParser()
    parser.add_argument('part')
    parser.add_argument('rows', type=Path, help='file to which JSON lines are added')
    parser.add_argument('--device', required=True)
    parser.add_argument('--folder', type=Path, required=True)
    parser.add_argument('--budget-s', type=float, required=True)
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--small', action='store_true')
    parser.add_argument('--done', nargs='*', default=[])
    parser.add_argument('--only', nargs='*', default=[])
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    args.folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(args.device, args.folder, args.small, args.budget_s)
    with open(args.rows, 'a', encoding='utf-8') as stream:
        checks = [each for each in checks_of(args.part, setting) if is_wanted(each.name, args.only)]
        _write(stream, {'names': [check.name for check in checks]})
        for check in checks:
            if check.name in args.done:
                continue
            _write(stream, {'begun': check.name})
            _write(stream, {'row': asdict(run_check(args.part, check))})
            if args.device == 'cuda' and not _works():
                return POISONED
            torch.cuda.empty_cache()
    return 0


def _write(stream: IO[str], record: dict) -> None:
    stream.write(json.dumps(to_plain(record), default=str) + '\n')
    stream.flush()


def _works() -> bool:
    """Whether the card still takes work; after an assertion in a kernel it does not."""
    try:
        torch.cuda.synchronize()
        return bool(torch.ones(2, device='cuda').sum().item() == 2)
    except Exception:
        return False


if __name__ == '__main__':
    sys.exit(main())
