"""Train every student alone and with every teacher, measure all, and tell what was transferred.

python tools/transfer_matrix.py distill/matrices/shapes.py
"""

import argparse
import shlex
import sys

from rich.console import Console
from rich.table import Column, Table

from backbones.files import atomic_write
from distill.base.files import write_json
from distill.cli.command import run_command
from distill.transfer.collect import collect, to_markdown, to_tables
from distill.transfer.matrix import load_matrix
from distill.transfer.plan import evaluations, training, trainings
from distill.transfer.steps import Workplace, run_steps
from distill.transfer.timing import epochs_at_equal_time, longer_runs


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('matrix', help='matrix config: students, teachers, losses, seeds; see distill/matrices')
    parser.add_argument('--data-root', help="the data set's folder, in place of the matrix's")
    parser.add_argument('--work-dir', help='where everything goes (default: work_dirs/<matrix name>)')
    parser.add_argument('--jobs', type=int, default=2, help='runs at a time; with accelerators, one each')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads a run')
    parser.add_argument('--launcher', default='', help="command that starts each run, such as 'srun --gpus=1'")
    parser.add_argument('--plan', action='store_true', help='print what would be run, and stop')
    return parser


def run(args: argparse.Namespace) -> dict:
    """Run the experiment, or what is left of it; returns the contents of transfer.json."""
    matrix = load_matrix(args.matrix, args.data_root, args.work_dir)
    console = Console()
    place = Workplace(
        matrix.work_dir / 'logs', args.jobs, args.threads, shlex.split(args.launcher), again='the experiment'
    )
    steps = trainings(matrix)
    if args.plan:
        for step in steps:
            console.print(f'{"done" if place.is_done(step) else "to do":5} {step.name}', highlight=False)
        return {'steps': [step.name for step in steps]}
    run_steps(steps, place, console.print)
    epochs = epochs_at_equal_time(matrix, place) if matrix.equal_time else {}
    more = longer_runs(matrix, epochs)
    run_steps([training(matrix, run) for run in more], place, console.print)
    run_steps(evaluations(matrix, [*matrix.alone(), *more, *matrix.taught()]), place, console.print)

    summary = collect(matrix, epochs)
    write_json(matrix.work_dir / 'transfer.json', summary)
    tables = to_tables(summary)
    with atomic_write(matrix.work_dir / 'transfer.md') as temporary:
        temporary.write_text(to_markdown(tables))
    for title, (head, *rows) in tables:
        # On a narrow screen the numbers take two lines; names and headings stay whole.
        columns = (Column(name, overflow='fold') for name in head[1:])
        table = Table(Column(head[0], no_wrap=True), *columns, title=title, title_justify='left', padding=(0, 0, 0, 1))
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(f'results: {matrix.work_dir / "transfer.json"}, {matrix.work_dir / "transfer.md"}')
    return summary


def main(argv=None) -> int:
    """Run the command."""
    return run_command(build_parser, run, argv)


if __name__ == '__main__':
    sys.exit(main())
