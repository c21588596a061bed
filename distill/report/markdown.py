"""The report as Markdown (GitHub's flavour) that refers to the pictures by relative path."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from distill.report.blocks import Block, Gallery, Paragraph, Picture, Plot, Section, Tiles, heading
from distill.report.tables import Cell, Table

MARKS = {'best': '**{}**', 'gain': '▲ {}', 'loss': '▼ {}', '': '{}'}


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    return re.sub(r'([\\`*_{}\[\]<>#|!~&])', r'\\\1', ' '.join(text.split()))


def render_markdown(title: str, sections: list[Section], folder: Path) -> str:
    """The whole report.

    Args:
        title: Heading.
        sections: What to say.
        folder: Where the report will lie and the paths of pictures start; figures lie in its ``figures/``.
    """
    lines = [f'# {escape(title)}', '']
    for section in sections:
        lines += [f'## {escape(section.title)}', ''] if section.title else []
        for block in section.blocks:
            if below := heading(block, section):
                lines += [f'### {escape(below)}', '']
            lines += _block(block, folder)
    return '\n'.join(lines).rstrip() + '\n'


def _block(block: Block, folder: Path) -> list[str]:
    if isinstance(block, Paragraph):
        text = escape(block.text)
        return [f'*{text}*' if block.kind == 'question' else text, '']
    if isinstance(block, Tiles):
        return []  # The sentences and tables hold the same numbers.
    if isinstance(block, Plot):
        return [f'![{escape(block.caption)}](figures/{quote(block.name)}.png)', '', escape(block.caption), '']
    if isinstance(block, Gallery):
        return [*_gallery(block, folder), '']
    return _table(block)


def _table(table: Table) -> list[str]:
    """One Markdown table; groups follow one another, their last row in bold."""
    heads = [f'{column.label} ({column.note})' if column.note else column.label for column in table.columns]
    rules = ['---:' if column.number else '---' for column in table.columns]
    lines = [_row(map(escape, heads)), _row(rules)]
    lines += [_row(map(_cell, row)) for rows in table.groups for row in rows]
    return [*lines, '', *(line for note in table.notes for line in (escape(note), ''))]


def _row(cells: Iterable[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def _cell(cell: Cell) -> str:
    text = MARKS['best' if cell.total else cell.mark].format(escape(cell.text))
    return f'{text} ({escape(cell.note)})' if cell.note else text


def _gallery(gallery: Gallery, folder: Path) -> list[str]:
    """Pictures alone, or a table: image, truth, and what each run said."""
    if not any(picture.verdicts for picture in gallery.pictures):
        return [_image(picture, folder) for picture in gallery.pictures]
    runs = list(dict.fromkeys(it.run for picture in gallery.pictures for it in picture.verdicts))
    lines = [_row(['Image', 'Truth', *map(escape, runs)]), _row(['---'] * (len(runs) + 2))]
    for picture in gallery.pictures:
        said = {
            it.run: f'{"✓" if it.right else "✗"} {escape(it.label)}'
            + (f' {100 * it.share:.0f} %' if it.share is not None else '')
            for it in picture.verdicts
        }
        lines.append(_row([_image(picture, folder), escape(picture.caption), *(said.get(run, '–') for run in runs)]))
    return lines


def _image(picture: Picture, folder: Path) -> str:
    if not (folder / picture.path).is_file():
        return f'missing picture: {escape(picture.path)}'
    return f'![{escape(picture.caption or picture.path)}]({quote(picture.path)})'
