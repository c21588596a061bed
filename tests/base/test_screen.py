"""Tables on the screen."""

import io

from rich.console import Console

from distill.base.screen import result_table


def test_a_narrow_screen_cuts_nothing():
    names = ['deit-mini_robust-resnet-tiny_shapes', 'deit-mini_robust-resnet-tiny_corrupted_shapes']
    text = io.StringIO()
    table = result_table(['top-1 %', 'adversarial'], [[name, '13.0 [7.8, 21.0]'] for name in names])
    Console(file=text, width=30).print(table)
    column = ''.join(line.split('│')[1].strip() for line in text.getvalue().splitlines() if line.startswith('│'))
    assert column == ''.join(names)
    assert '…' not in text.getvalue()
