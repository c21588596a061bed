"""The text of a config: its header in 120 columns, and Python as ruff formats it."""

import textwrap
from collections.abc import Iterable
from pathlib import Path

__all__ = ['Code', 'Tall', 'assignment', 'config', 'expression', 'outdated', 'write']

WIDTH = 120


class Code(str):
    """Python that is written as it stands, where a plain string would be quoted."""


class Tall(dict):
    """A dict that is written with one item a line, even where all would fit into one."""


def expression(value, indent: int = 0, column: int = 0) -> str:
    """Write a value as Python.

    Args:
        value: A plain value, `Code`, or lists, tuples and dicts of them. A dict becomes ``dict(key=…)``; its key '' is
            a positional argument, and a key that begins with # is a comment.
        indent: Indentation of the line that the expression stands in.
        column: Where in the line the expression begins.

    Returns:
        One line where it fits, with a comma after it; otherwise one item a line.
    """
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, dict):
        opening, closing, items = 'dict(', ')', list(value.items())
    elif isinstance(value, (list, tuple)):
        opening, closing, items = *('[]' if isinstance(value, list) else '()'), [('', item) for item in value]
    else:
        return repr(value)
    commented = any(key.startswith('#') for key, _ in items)
    if not commented and not isinstance(value, Tall):
        body = ', '.join((f'{key}=' if key else '') + expression(item) for key, item in items)
        comma = ',' if isinstance(value, tuple) and len(items) == 1 else ''
        line = f'{opening}{body}{comma}{closing}'
        if '\n' not in line and column + len(line) < WIDTH:
            return line
    lines = [opening]
    for key, item in items:
        start = ' ' * (indent + 4) + (f'{key}=' if key else '')
        comment = key.startswith('#')
        lines.append(' ' * (indent + 4) + key if comment else f'{start}{expression(item, indent + 4, len(start))},')
    return '\n'.join([*lines, ' ' * indent + closing])


def assignment(name: str, value) -> str:
    """Write ``name = value``."""
    return f'{name} = {expression(value, column=len(name) + 3)}'


def config(paragraphs: Iterable[str], source: str, body: Iterable[str]) -> str:
    """Write a whole config.

    Args:
        paragraphs: The header. Lines that are longer than the page are folded.
        source: Where the table is that the config is written from.
        body: Assignments.
    """
    folded = ['\n'.join(_fold(line) for line in paragraph.split('\n')) for paragraph in paragraphs]
    # The quotes take three columns of the first line, and of the last where that is the only paragraph.
    width = WIDTH if len(folded) > 1 else WIDTH - 3
    folded[0] = textwrap.fill(folded[0], width, initial_indent='"""', break_long_words=False, break_on_hyphens=False)
    header = '\n\n'.join(folded) + ('\n"""' if len(folded) > 1 else '"""')
    return '\n'.join([header, f'# Written by `make configs` from {source}: change it there.', '', *body, ''])


def _fold(line: str) -> str:
    return textwrap.fill(line, WIDTH - 2, break_long_words=False, break_on_hyphens=False)


def outdated(files: dict[Path, str]) -> list[Path]:
    """Return which files are missing or say something else."""
    return [path for path, text in files.items() if not path.is_file() or path.read_text(encoding='utf-8') != text]


def write(files: dict[Path, str]) -> list[Path]:
    """Write the files that are missing or say something else, and return their paths."""
    changed = outdated(files)
    for path in changed:
        path.write_text(files[path], encoding='utf-8')
    return changed
