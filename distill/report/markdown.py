"""The report in GitHub's Markdown, which refers to the pictures by relative paths."""

from pathlib import Path
from urllib.parse import quote

from distill.base.markdown import LEFT, RIGHT, escape, table
from distill.report.blocks import Block, Gallery, Paragraph, Picture, Plot, Section, Tiles, Verdict, heading
from distill.report.tables import Cell, Table

MARKS = {'best': '**{}**', 'gain': '▲ {}', 'loss': '▼ {}', '': '{}'}


def render_markdown(title: str, sections: list[Section], folder: Path) -> str:
    """Render the whole report.

    Args:
        title: Heading.
        sections: The contents.
        folder: Where the report goes and the paths of pictures start; the figures lie in its ``figures/``.
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
        return []  # Sentences and tables hold the same numbers.
    if isinstance(block, Plot):
        return [f'![{escape(block.caption)}](figures/{quote(block.name)}.png)', '', escape(block.caption), '']
    if isinstance(block, Gallery):
        return [*_gallery(block, folder), '']
    return _table(block)


def _table(content: Table) -> list[str]:
    """One Markdown table; its groups follow one another, and the row that sums up a group is bold."""
    heads = [f'{column.label} ({column.note})' if column.note else column.label for column in content.columns]
    rows = [[_cell(cell) for cell in row] for rows in content.groups for row in rows]
    align = ''.join(RIGHT if column.number else LEFT for column in content.columns)
    return [table([escape(head) for head in heads], rows, align), '', *_notes(content.notes)]


def _notes(notes: list[str]) -> list[str]:
    return [line for note in notes for line in (escape(note), '')]


def _cell(cell: Cell) -> str:
    text = MARKS['best' if cell.total else cell.mark].format(escape(cell.text))
    return f'{text} ({escape(cell.note)})' if cell.note else text


def _gallery(gallery: Gallery, folder: Path) -> list[str]:
    """Pictures alone, or a table: the image, the truth, and the answer of each run."""
    if not any(picture.verdicts for picture in gallery.pictures):
        return [_image(picture, folder) for picture in gallery.pictures]
    runs = list(dict.fromkeys(verdict.run for picture in gallery.pictures for verdict in picture.verdicts))
    rows = []
    for picture in gallery.pictures:
        answers = {verdict.run: _answer(verdict) for verdict in picture.verdicts}
        rows.append([_image(picture, folder), escape(picture.caption), *(answers.get(run, '–') for run in runs)])
    return [table(['Image', 'Truth', *map(escape, runs)], rows, LEFT * (len(runs) + 2))]


def _answer(verdict: Verdict) -> str:
    sign = '✓' if verdict.right else '✗'
    share = f' {100 * verdict.share:.0f} %' if verdict.share is not None else ''
    return f'{sign} {escape(verdict.label)}{share}'


def _image(picture: Picture, folder: Path) -> str:
    if not (folder / picture.path).is_file():
        return f'missing picture: {escape(picture.path)}'
    return f'![{escape(picture.caption or picture.path)}]({quote(picture.path)})'
