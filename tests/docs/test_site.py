"""What the site draws by itself: the picture of a graph."""

import sys

import pytest
from pages import REPO

pytest.importorskip('sphinx')
sys.path.insert(0, str(REPO / 'docs' / '_ext'))

from mermaid_picture import edges_of, lay_out, to_svg


def test_a_picture_has_each_name_and_each_arrow_and_arrows_go_down():
    edges = edges_of('graph TD\n    a --> b\n    b --> c\n    a --> c\n')
    rows, ways = lay_out(edges)
    assert [sorted(row) for row in rows] == [['a'], ['a c 1', 'b'], ['c']]  # The long arrow passes beside b.
    assert [way[0 :: len(way) - 1] for way in ways] == [['a', 'b'], ['b', 'c'], ['a', 'c']]
    svg = to_svg(edges)
    assert (svg.count('class="graph-box"'), svg.count('class="graph-arrow"')) == (3, 3)


@pytest.mark.parametrize(('text', 'message'), [('a --- b', 'knows lines'), ('a --> b\nb --> a', 'in a circle')])
def test_what_cannot_be_drawn_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        to_svg(edges_of(text))
