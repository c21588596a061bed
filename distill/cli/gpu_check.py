"""Check on an accelerator what the tests check on the CPU, and measure its speed: a row for each check, in minutes.

robust-backbones gpu-check --minutes 8 --out work_dirs/gpu_check/result.json
robust-backbones gpu-check --minutes 1 --device cpu --out work_dirs/gpu_check/cpu.json

A check that fails is a row with its cause, and the others go on. Parts run beside one another in processes of their
own, those that measure speed alone; what the time does not suffice for is marked "not reached in time".
"""

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from distill.cli.arguments import check_at_least, check_can_write
from distill.cli.command import prepare_torch, run_command
from distill.gpu_check.plan import PARTS

CPUS_A_PART = 3
"""Processors that a part should have for itself, beside a card."""


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--minutes', type=float, default=8, help='what all parts may take together')
    parser.add_argument('--out', type=Path, required=True, help='JSON file of the rows, written anew after each row')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda', help='cpu: the logic alone, small')
    parser.add_argument(
        '--parts', nargs='+', default=list(PARTS), metavar='PART', help=f'of {", ".join(PARTS)} (default: all)'
    )
    parser.add_argument('--only', nargs='+', default=[], metavar='TEXT', help='checks with such a text in their name')
    parser.add_argument('--jobs', type=int, metavar='N', help='parts beside one another (default: by the processors)')
    parser.add_argument('--folder', type=Path, help='keep data, logs and runs of the parts here')
    return parser


def check(args: argparse.Namespace) -> None:
    """Check what needs no heavy import."""
    for part in args.parts:
        if part not in PARTS:
            raise ValueError(f"part '{part}' is unknown; choose from {', '.join(PARTS)}")
    check_at_least(args, 1, 'jobs')
    if args.minutes <= 0:
        raise ValueError(f'--minutes is {args.minutes}; give more than 0')
    check_can_write(args.out, '--out')


def run(args: argparse.Namespace) -> dict:
    """Run the parts; returns what the file holds."""
    check(args)
    prepare_torch()
    import torch

    from distill.gpu_check.run import run_parts

    if args.device == 'cuda' and not torch.cuda.is_available():
        raise ValueError('--device cuda finds no card; give --device cpu, which runs the logic alone')
    cpus_a_part = CPUS_A_PART if args.device == 'cuda' else 1
    jobs = args.jobs or max(1, min(len(PARTS), len(os.sched_getaffinity(0)) // cpus_a_part))
    parts = [part for part in PARTS if part in args.parts]
    with TemporaryDirectory(prefix='gpu-check-') as temporary:
        folder = args.folder or Path(temporary)
        result = run_parts(
            parts, args.device, args.minutes, folder, args.out, jobs, lambda row: print(row, flush=True), args.only
        )
    counts = {status: sum(row['status'] == status for row in result['rows']) for status in
              ('passed', 'failed', 'not reached in time', 'skipped')}  # fmt: skip
    print(f'{result["machine"]["device"]}: {", ".join(f"{count} {status}" for status, count in counts.items())}')
    return result


def main(argv=None) -> int:
    """Run the command; the status is 1 if a check has failed."""
    results: list[dict] = []
    status = run_command(build_parser, lambda args: results.append(run(args)) or results[0], argv)
    return status or int(any(row['status'] == 'failed' for row in results[0]['rows']))


if __name__ == '__main__':
    sys.exit(main())
