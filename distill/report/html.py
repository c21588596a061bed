"""The report as one HTML file that needs nothing else: pictures inside, no network, script optional."""

import base64
import hashlib
import re
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from distill.report.blocks import (
    Block,
    Gallery,
    Paragraph,
    Picture,
    Plot,
    Section,
    Tiles,
    Verdict,
    heading,
)
from distill.report.tables import Cell, Column, Table

IMAGE_TYPES = {b'\x89PNG\r\n\x1a\n': 'image/png', b'\xff\xd8\xff': 'image/jpeg'}
"""Pictures are recognised by their first bytes, so that a path in a results file pulls nothing else into the page."""

WIDE = 8
"""A table of more columns is set tighter."""
NUMBER_AND_UNIT = re.compile(r'(?<=\d) (?=%|points?\b|pixels?\b)')
"""The space between a number and what it counts, at which no line may end."""
GAIN_SIGNS = {'gain': '▲', 'loss': '▼'}


def prose(text: str) -> str:
    """Text as HTML, whose numbers stay beside their units."""
    return escape(NUMBER_AND_UNIT.sub('\N{NO-BREAK SPACE}', text))


def render_html(
    title: str,
    sections: list[Section],
    figures: Mapping[str, tuple[str, bytes]],
    colors: Mapping[str, str],
    folder: Path,
) -> str:
    """Render the whole page.

    Args:
        title: Heading and window title.
        sections: The contents.
        figures: SVG and PNG of each figure by name; the SVG is taken.
        colors: Colour of each run, shown beside its name.
        folder: Where the paths of pictures start.
    """
    parts = files('distill.report')
    script = parts.joinpath('sort.js').read_text(encoding='utf-8')
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _Page(figures, colors, folder)
    return Template(parts.joinpath('page.html').read_text(encoding='utf-8')).substitute(
        title=escape(title),
        navigation=' '.join(f'<a href="#{part.name}">{escape(part.title)}</a>' for part in sections if part.title),
        body='\n'.join(map(page.section, sections)),
        script=script,
        # No other script may run, so that text from a results file cannot.
        script_hash=f'sha256-{digest}',
    )


class _Page:
    """Turns blocks into HTML; all text from a results file is escaped."""

    def __init__(self, figures: Mapping[str, tuple[str, bytes]], colors: Mapping[str, str], folder: Path) -> None:
        self.figures = figures
        self.colors = colors
        self.folder = folder

    def section(self, section: Section) -> str:
        lines = [f'<section id="{section.name}">']
        lines += [f'<h2>{escape(section.title)}</h2>'] if section.title else []
        for block in section.blocks:
            title = heading(block, section)
            lines += [f'<h3>{escape(title)}</h3>'] if title else []
            lines.append(self.block(block))
        return '\n'.join([*lines, '</section>'])

    def block(self, block: Block) -> str:
        render = {
            Paragraph: self.paragraph,
            Tiles: self.tiles,
            Table: self.table,
            Plot: self.plot,
            Gallery: self.gallery,
        }
        return render[type(block)](block)

    def paragraph(self, block: Paragraph) -> str:
        return f'<p class="{block.kind}">{prose(block.text)}</p>'

    def tiles(self, block: Tiles) -> str:
        tiles = (
            f'<div class="tile"><strong class="{tile.mark}">{escape(tile.value)}</strong>'
            f'<span>{prose(tile.label)}</span><small>{prose(tile.note)}</small></div>'
            for tile in block.tiles
        )
        return f'<div class="tiles">{"".join(tiles)}</div>'

    def table(self, table: Table) -> str:
        grouped = len(table.groups) > 1 or any(row[0].total for rows in table.groups for row in rows)
        head = ''.join(self.column_head(column) for column in table.columns)
        groups = (''.join(self.row(table.columns, row) for row in rows) for rows in table.groups)
        bodies = ''.join(f'<tbody class="{"grouped" if grouped else ""}">{rows}</tbody>' for rows in groups)
        wide = len(table.columns) > WIDE
        names = ' '.join(name for name, holds in (('sortable', not grouped), ('wide', wide)) if holds)
        notes = ''.join(f'<li>{prose(note)}</li>' for note in table.notes)
        return (
            f'<div class="scroll" tabindex="0" role="region" '
            f'aria-label="{escape(table.title)}"><table class="{names}">'
            f'<thead><tr>{head}</tr></thead>{bodies}</table></div>'
            + (f'\n<ul class="notes">{notes}</ul>' if notes else '')
        )

    def column_head(self, column: Column) -> str:
        note = f'<small>{escape(column.note)}</small>' if column.note else ''
        return f'<th scope="col" class="{"number" if column.number else ""}">{escape(column.label)}{note}</th>'

    def row(self, columns: list[Column], row: list[Cell]) -> str:
        cells = ''.join(
            self.cell(cell, column, first=index == 0)
            for index, (cell, column) in enumerate(zip(row, columns, strict=True))
        )
        return f'<tr{" class=total" if row[0].total else ""}>{cells}</tr>'

    def cell(self, cell: Cell, column: Column, first: bool) -> str:
        text = self.dot(cell.run) + escape(cell.text)
        text = f'<b>{text}</b>' if cell.mark == 'best' else text
        if cell.mark in GAIN_SIGNS:
            text = f'<span class="{cell.mark}">{GAIN_SIGNS[cell.mark]} {text}</span>'
        note = f'<small>{escape(cell.note)}</small>' if cell.note else ''
        if first:
            return f'<th scope="row">{text}{note}</th>'
        names = ' '.join(filter(None, ('number' if column.number else '', 'best' if cell.mark == 'best' else '')))
        sort = f' data-sort="{cell.sort!r}"' if cell.sort is not None else ''
        return f'<td class="{names}"{sort}>{text}{note}</td>'

    def dot(self, run: str) -> str:
        return f'<span class="dot" style="background:{self.colors[run]}"></span>' if run in self.colors else ''

    def plot(self, block: Plot) -> str:
        data = base64.b64encode(self.figures[block.name][0].encode()).decode()
        caption = escape(block.caption)
        names = 'plot narrow' if block.narrow else 'plot'
        return (
            f'<figure><div class="{names}" tabindex="0" role="region" aria-label="Figure">'
            f'<img alt="{caption}" src="data:image/svg+xml;base64,{data}"></div>'
            f'<figcaption>{prose(block.caption)}</figcaption></figure>'
        )

    def gallery(self, block: Gallery) -> str:
        pictures = ''.join(self.picture(picture) for picture in block.pictures)
        kind = 'gallery large' if block.large else 'gallery'
        return f'<div class="{kind}">{pictures}</div>'

    def picture(self, picture: Picture) -> str:
        """The image with its caption, or a note in its place where it cannot be shown."""
        caption = f'<b>{escape(picture.caption)}</b>' if picture.caption else ''
        if picture.verdicts:
            caption += f'<ul class="verdicts">{"".join(map(self.verdict, picture.verdicts))}</ul>'
        caption = f'<figcaption>{caption}</figcaption>' if caption else ''
        return f'<figure>{self.image(picture)}{caption}</figure>'

    def image(self, picture: Picture) -> str:
        path = self.folder / picture.path
        if not path.is_file():
            return f'<div class="missing">missing picture: {escape(picture.path)}</div>'
        content = path.read_bytes()
        kind = next((kind for start, kind in IMAGE_TYPES.items() if content.startswith(start)), None)
        if kind is None:
            return f'<div class="missing">neither PNG nor JPEG: {escape(picture.path)}</div>'
        data = base64.b64encode(content).decode()
        return f'<img alt="{escape(picture.caption or picture.path)}" src="data:{kind};base64,{data}">'

    def verdict(self, verdict: Verdict) -> str:
        sign, kind = ('✓', 'gain') if verdict.right else ('✗', 'loss')
        share = f' {100 * verdict.share:.0f} %' if verdict.share is not None else ''
        note = f' ({verdict.note})' if verdict.note else ''
        answer = f'<span><span class="{kind}">{sign} {escape(verdict.label)}</span>{share}{escape(note)}</span>'
        return f'<li>{answer} <span class="who">{self.dot(verdict.run)}{escape(verdict.run)}</span></li>'
