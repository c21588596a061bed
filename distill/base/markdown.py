"""Tables and plain text in GitHub's Markdown: every page of this project that holds a table is written by these."""

import re
from collections.abc import Iterable, Sequence

LEFT, RIGHT = 'l', 'r'
RULES = {LEFT: '---', RIGHT: '---:'}


def escape(text: str) -> str:
    """Quote plain text so that Markdown shows it as it is, in one line."""
    return re.sub(r'([\\`*_{}\[\]<>#|!~&])', r'\\\1', ' '.join(text.split()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = '') -> str:
    """Lay out a table.

    Args:
        head: Names of the columns, in Markdown; `escape` quotes plain text.
        rows: Cells of each row, in Markdown. A bar in a cell is quoted where it is not yet: it would end the cell.
        align: ``l`` or ``r`` a column; empty puts the first column on the left and all others, as numbers, on the
            right.

    Returns:
        The lines of the table, without a line break at the end.

    Raises:
        ValueError: A row or ``align`` has more or fewer columns than the head.
    """
    align = align or LEFT + RIGHT * (len(head) - 1)
    lines = [head, [RULES[side] for side in align], *rows]
    for cells in lines:
        if len(cells) != len(head):
            raise ValueError(f'a row has {len(cells)} cells ({", ".join(cells)}), and the head {len(head)}')
    return '\n'.join(f'| {" | ".join(map(_cell, cells))} |' for cells in lines)


def _cell(text: str) -> str:
    return re.sub(r'(?<!\\)\|', r'\\|', text)
