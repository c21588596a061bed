"""The directive ``mermaid``: a graph as a picture inside the page, drawn when the site is built, without a network.

GitHub draws the same block by itself. Of Mermaid's language the directive knows ``graph TD`` and lines ``a --> b``.
"""

import html
import itertools
import re
from collections.abc import Sequence

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

BOX, LANE, GAP, ROW, MARGIN = (104, 30), 10, 16, 78, 4
"""Width and height of a box, width that an arrow takes in a row that it crosses, space between these, distance of rows
and space around, in pixels."""

Edge = tuple[str, str]


def edges_of(text: str) -> list[Edge]:
    """The arrows of a graph.

    Raises:
        ValueError: A line is neither ``graph TD`` nor an arrow.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    arrows = [re.fullmatch(r'(\w+) --> (\w+)', line) for line in lines if line != 'graph TD']
    if None in arrows:
        raise ValueError('the picture of a graph knows lines `a --> b` only')
    return [arrow.groups() for arrow in arrows]


def levels_of(edges: Sequence[Edge]) -> dict[str, int]:
    """The row of each name, below all that have an arrow to it.

    Raises:
        ValueError: Arrows go round in a circle.
    """
    level = {name: 0 for edge in edges for name in edge}
    for _ in level:
        for above, below in edges:
            level[below] = max(level[below], level[above] + 1)
    if max(level.values()) >= len(level):
        raise ValueError('the arrows of the graph go round in a circle')
    return level


def lay_out(edges: Sequence[Edge]) -> tuple[list[list[str]], list[list[str]]]:
    """Rows of places from left to right, and for each arrow the places that it goes through.

    An arrow that crosses rows has a place of its own in each, so that it runs between boxes and not behind them.
    """
    level = levels_of(edges)
    rows: list[list[str]] = [[] for _ in range(max(level.values()) + 1)]
    for name, row in level.items():
        rows[row].append(name)
    ways = []
    for above, below in edges:
        between = [f'{above} {below} {row}' for row in range(level[above] + 1, level[below])]
        for place, row in zip(between, range(level[above] + 1, level[below]), strict=True):
            rows[row].append(place)
        ways.append([above, *between, below])
    steps = [step for way in ways for step in itertools.pairwise(way)]
    for _ in range(8):  # Each place goes to the mean of its neighbours, again and again.
        for row in rows:
            at = {name: i - len(other) / 2 for other in rows for i, name in enumerate(other)}
            mean = {}
            for name in row:
                near = [at[a if b == name else b] for a, b in steps if name in (a, b)]
                mean[name] = sum(near) / len(near)
            row.sort(key=mean.__getitem__)
    return rows, ways


def to_svg(edges: Sequence[Edge]) -> str:
    """The graph as SVG in the colours of the page."""
    rows, ways = lay_out(edges)
    names = {name for edge in edges for name in edge}
    width, height = BOX
    wide = {place: width if place in names else LANE for row in rows for place in row}
    lengths = [sum(wide[place] + GAP for place in row) - GAP for row in rows]
    middle = {}
    for number, row in enumerate(rows):
        x = MARGIN + (max(lengths) - lengths[number]) / 2
        for place in row:
            middle[place] = x + wide[place] / 2, MARGIN + number * ROW + height / 2
            x += wide[place] + GAP
    parts = [f'<path d="{curve([middle[place] for place in way])}" class="graph-arrow"/>' for way in ways]
    for name in sorted(names):
        x, y = middle[name]
        parts.append(
            f'<rect x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width}" height="{height}" rx="5" '
            f'class="graph-box"/><text x="{x:g}" y="{y + 5:g}" text-anchor="middle" fill="currentColor">'
            f'{html.escape(name)}</text>'
        )
    size = f'{max(lengths) + 2 * MARGIN:g} {(len(rows) - 1) * ROW + height + 2 * MARGIN:g}'
    told = html.escape('; '.join(f'{above} to {below}' for above, below in edges))
    return (
        f'<svg class="graph" viewBox="0 0 {size}" role="img" aria-label="graph with arrows {told}">'
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="4" refY="3" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L6 3 L0 6 z" fill="currentColor"/></marker></defs>{"".join(parts)}</svg>'
    )


def curve(points: Sequence[tuple[float, float]]) -> str:
    """A path from below the first box through the points to above the last box."""
    (x, y), half = points[0], BOX[1] / 2
    path = f'M{x:g} {y + half:g}'
    y += half
    for i, (to_x, to_y) in enumerate(points[1:], 2):
        end = to_y - (half + 3 if i == len(points) else half)
        bend = (end - y) / 2
        path += f' C{x:g} {y + bend:g} {to_x:g} {end - bend:g} {to_x:g} {end:g}'
        if i < len(points):
            path += f' V{to_y + half:g}'
        x, y = to_x, to_y + half
    return path


class Mermaid(SphinxDirective):
    """A graph in Mermaid's language."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The picture; in what is no HTML, the text."""
        text = '\n'.join(self.content)
        try:
            return [nodes.raw('', to_svg(edges_of(text)), format='html')]
        except ValueError as error:
            raise self.error(str(error)) from error


def setup(app) -> dict:
    """Add the directive."""
    app.add_directive('mermaid', Mermaid)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
