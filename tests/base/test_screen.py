"""Tables on the screen."""

import io

from rich.console import Console

from distill.base.screen import fitting_table, result_table


def test_a_narrow_screen_cuts_nothing():
    names = ['deit-mini_robust-resnet-tiny_shapes', 'deit-mini_robust-resnet-tiny_corrupted_shapes']
    text = io.StringIO()
    table = result_table(['top-1 %', 'adversarial'], [[name, '13.0 [7.8, 21.0]'] for name in names])
    Console(file=text, width=30).print(table)
    column = ''.join(line.split('│')[1].strip() for line in text.getvalue().splitlines() if line.startswith('│'))
    assert column == ''.join(names)
    assert '…' not in text.getvalue()


def test_a_table_lies_on_its_side_where_only_that_fits():
    head, rows = ['top-1 %', *(f'suite number {k}' for k in range(7))], [['one', *map(str, range(7))]]
    for width, columns in ((200, 8), (60, 2), (15, 8)):  # Wide enough, too narrow, and too narrow both ways.
        console = Console(file=io.StringIO(), width=width)
        table = fitting_table(console, head, rows)
        assert len(table.columns) == columns
        console.print(table)
    assert [column.header for column in fitting_table(Console(width=60), head, rows).columns] == ['top-1 %', 'one']
