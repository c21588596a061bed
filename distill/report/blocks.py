"""The parts of a report, before they are rendered: sections of blocks."""

from dataclasses import dataclass

from distill.report.tables import Table


@dataclass(frozen=True)
class Paragraph:
    """Plain text.

    Attributes:
        text: The text.
        kind: 'question', 'answer', 'note' or empty.
    """

    text: str
    kind: str = ''


@dataclass(frozen=True)
class Tile:
    """One key number.

    Attributes:
        value: The number, as shown.
        label: Its name.
        note: Small print.
        mark: 'gain', 'loss' or empty, as in a table's cell.
    """

    value: str
    label: str
    note: str = ''
    mark: str = ''


@dataclass(frozen=True)
class Tiles:
    """Key numbers, side by side."""

    tiles: list[Tile]


@dataclass(frozen=True)
class Plot:
    """A figure.

    Attributes:
        name: Its name in `plots.draw_figures` or `explained.read_figures`.
        caption: The text below it.
        narrow: Whether it may shrink to a phone's width; other figures are scrolled there.
    """

    name: str
    caption: str
    narrow: bool = False


@dataclass(frozen=True)
class Verdict:
    """The answer of one run to a sample image.

    Attributes:
        run: The run.
        label: The class that it names.
        right: Whether that is the true class.
        share: Its confidence from 0 to 1.
        note: Small print.
    """

    run: str
    label: str
    right: bool
    share: float | None
    note: str = ''


@dataclass(frozen=True)
class Picture:
    """An image file.

    Attributes:
        path: Where it lies, relative to the report's folder.
        caption: The text below it.
        verdicts: The answers of the runs.
    """

    path: str
    caption: str
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True)
class Gallery:
    """Pictures, side by side.

    Attributes:
        title: Heading.
        pictures: The pictures.
        large: Whether they are shown larger than sample images.
    """

    title: str
    pictures: list[Picture]
    large: bool = False


Block = Paragraph | Tiles | Table | Plot | Gallery


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        name: Its anchor.
        title: Heading; empty for the headline.
        blocks: Its content, in order.
    """

    name: str
    title: str
    blocks: list[Block]


def heading(block: Block, section: Section) -> str:
    """The heading above a block: its title, unless that only repeats the section's."""
    title = getattr(block, 'title', '')
    return '' if title == section.title else title
