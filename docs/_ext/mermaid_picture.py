"""The directive ``mermaid``: a graph as a picture inside the page, drawn when the site is built, without a network.

GitHub draws the same block by itself. Of Mermaid's language the directive knows ``graph TD`` and lines ``a --> b``.
"""

import html
import re
from collections.abc import Sequence

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

BOX, GAP, ROW, MARGIN = (104, 30), 16, 78, 4
"""Width and height of a box, space between boxes, distance of rows and space around, in pixels."""

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


def rows_of(edges: Sequence[Edge]) -> list[list[str]]:
    """The names, each in the row below all that have an arrow to it, in an order with few crossings.

    Raises:
        ValueError: Arrows go round in a circle.
    """
    level = {name: 0 for edge in edges for name in edge}
    for _ in level:
        for above, below in edges:
            level[below] = max(level[below], level[above] + 1)
    if max(level.values()) >= len(level):
        raise ValueError('the arrows of the graph go round in a circle')
    rows = [[name for name in level if level[name] == row] for row in range(max(level.values()) + 1)]
    for _ in range(4):  # Each name goes to the mean place of its neighbours, again and again.
        place = {name: i - len(row) / 2 for row in rows for i, name in enumerate(row)}
        for row in rows:
            mean = {}
            for name in row:
                near = [place[a if b == name else b] for a, b in edges if name in (a, b)]
                mean[name] = sum(near) / len(near)
            row.sort(key=mean.__getitem__)
    return rows


def to_svg(edges: Sequence[Edge]) -> str:
    """The graph as SVG in the colours of the page."""
    rows = rows_of(edges)
    width, height = BOX
    widest = max(map(len, rows)) * (width + GAP) - GAP
    corner = {
        name: (MARGIN + (widest - len(row) * (width + GAP) + GAP) / 2 + i * (width + GAP), MARGIN + j * ROW)
        for j, row in enumerate(rows)
        for i, name in enumerate(row)
    }
    parts = []
    for above, below in edges:
        x, y = corner[above][0] + width / 2, corner[above][1] + height
        to_x, to_y = corner[below][0] + width / 2, corner[below][1] - 3
        bend = (to_y - y) / 2
        parts.append(
            f'<path d="M{x:g} {y:g} C{x:g} {y + bend:g} {to_x:g} {to_y - bend:g} {to_x:g} {to_y:g}" '
            'fill="none" stroke="currentColor" stroke-opacity=".55" marker-end="url(#tip)"/>'
        )
    for name, (x, y) in corner.items():
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width}" height="{height}" rx="5" class="graph-box"/>'
            f'<text x="{x + width / 2:g}" y="{y + height / 2 + 5:g}" text-anchor="middle" fill="currentColor">'
            f'{html.escape(name)}</text>'
        )
    size = f'{widest + 2 * MARGIN:g} {(len(rows) - 1) * ROW + height + 2 * MARGIN:g}'
    told = html.escape('; '.join(f'{above} to {below}' for above, below in edges))
    return (
        f'<svg class="graph" viewBox="0 0 {size}" role="img" aria-label="graph with arrows {told}">'
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="4" refY="3" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L6 3 L0 6 z" fill="currentColor"/></marker></defs>{"".join(parts)}</svg>'
    )


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
