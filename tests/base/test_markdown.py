"""Tables in Markdown: what stands in a cell stays in it."""

import re

import pytest

from distill.base.markdown import escape, table


def test_numbers_stand_on_the_right_and_no_cell_breaks_its_row():
    text = table(['run', 'top-1'], [['a|b', '1.0'], [escape('c|`d`\nd'), '2.0']])
    assert text.splitlines() == ['| run | top-1 |', '| --- | ---: |', r'| a\|b | 1.0 |', r'| c\|\`d\` d | 2.0 |']
    assert table(['a', 'b'], [], 'rl').splitlines()[1] == '| ---: | --- |'
    assert {len(re.findall(r'(?<!\\)\|', line)) for line in text.splitlines()} == {3}


def test_a_row_of_another_width_is_refused():
    with pytest.raises(ValueError, match=re.escape('a row has 1 cells (x), and the head 2')):
        table(['a', 'b'], [['x']])
