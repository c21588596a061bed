"""What is shown to people: progress bars and tables, drawn by rich."""

from collections.abc import Collection, Iterable, Sequence
from importlib.util import find_spec

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table


def screen(quiet: bool = False) -> Console:
    """Where a call draws: the terminal, or below a notebook's cell.

    Without ipywidgets nothing moves below a cell, and rich would warn in its place; a bar is then drawn when it ends.

    Args:
        quiet: Draw nothing.
    """
    console = Console(quiet=quiet)
    if console.is_jupyter and find_spec('ipywidgets') is None:
        return Console(quiet=quiet, force_jupyter=False)
    return console


def counting_progress(console: Console, **options) -> Progress:
    """A progress bar that tells what is done, how much of it, and how long the rest will take.

    Args:
        console: Where the bar is drawn.
        options: Further arguments of rich's `Progress`.
    """
    columns = TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, **options)


def result_table(
    head: Sequence[str | Column],
    rows: Iterable[Sequence[RenderableType]],
    numbers: Collection[int] = (),
    ends: Collection[int] = (),
    **options,
) -> Table:
    """A table of results, of which nothing is cut on a narrow screen.

    Args:
        head: Names of the columns, or the columns.
        rows: The cells of each row.
        numbers: Columns that are aligned to the right.
        ends: Rows below which a line is drawn.
        options: Further arguments of rich's `Table`.
    """
    columns = [Column(one) if isinstance(one, str) else one for one in head]
    for column in columns:
        # Where a screen is too narrow a cell goes on below: of two long names the ends may be all that differs.
        column.overflow = 'fold'
    table = Table(*columns, **options)
    for number in numbers:
        table.columns[number].justify = 'right'
    for index, row in enumerate(rows):
        table.add_row(*row, end_section=index in ends)
    return table


def fitting_table(console: Console, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of results, on its side if the screen is too narrow for it and wide enough for that.

    Args:
        console: Where it is drawn.
        head: Names of the columns.
        rows: The cells of each row; the first is the row's name.
    """
    table = result_table(head, rows)
    if _width(console, table) > console.width:
        first, *others = zip(head, *rows, strict=True)
        turned = result_table(first, others)
        table = turned if _width(console, turned) <= console.width else table
    return table


def _width(console: Console, table: Table) -> int:
    """How wide a table would be on a screen that is wide enough."""
    return Measurement.get(console, console.options.update(width=10_000), table).maximum
