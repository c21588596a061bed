"""What a report is made of, whatever renders it: sections of blocks."""

from dataclasses import dataclass

from distill.report.tables import Table


@dataclass(frozen=True)
class Paragraph:
    """Plain text; ``kind`` is 'question', 'answer', 'note' or empty."""

    text: str
    kind: str = ''


@dataclass(frozen=True)
class Tile:
    """One number to take away; ``mark`` as in a table's cell."""

    value: str
    label: str
    note: str = ''
    mark: str = ''


@dataclass(frozen=True)
class Tiles:
    tiles: list[Tile]


@dataclass(frozen=True)
class Plot:
    """A figure of `plots.draw_figures` or `explained.read_figures`, by its name there.

    ``narrow``: it may shrink to a phone's width; others are scrolled there.
    """

    name: str
    caption: str
    narrow: bool = False


@dataclass(frozen=True)
class Verdict:
    """What one run said about a sample image; ``share`` is its confidence from 0 to 1."""

    run: str
    label: str
    right: bool
    share: float | None
    note: str = ''


@dataclass(frozen=True)
class Picture:
    """An image file relative to the results, and what to say below it."""

    path: str
    caption: str
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Gallery:
    title: str
    pictures: list[Picture]
    large: bool = False


Block = Paragraph | Tiles | Table | Plot | Gallery


@dataclass(frozen=True)
class Section:
    """A part of the report; ``name`` is its anchor."""

    name: str
    title: str
    blocks: list[Block]


def heading(block: Block, section: Section) -> str:
    """What stands above a block: its title, unless it only repeats the section's."""
    title = getattr(block, 'title', '')
    return '' if title == section.title else title
