"""A cell is a known kind at a known severity, and one text."""

import numpy as np
import pytest

from distill.base.records import EXTRA_KINDS, GROUPS, KINDS, Cell, cells_of


def test_a_cell_is_read_in_the_spellings_of_all_files():
    for cell in cells_of(KINDS + EXTRA_KINDS):
        # Predictions have the first, corruptions.json the second.
        assert Cell.parse(str(cell)) == Cell.parse(str(cell).replace(' ', '_')) == cell
    assert str(Cell('gaussian_noise', 3)) == 'gaussian_noise 3'
    assert Cell('gaussian_noise', 3).label == 'gaussian noise, severity 3'
    assert Cell('fog', np.int64(3)) == Cell('fog', 3)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('fog', "'fog' is no cell; expected a kind and a severity, such as 'fog 3'"),
        ('fog three', 'is no cell'),
        ('', 'is no cell'),
        ('fogg 3', "corruption 'fogg' is unknown; choose from brightness, contrast"),
        ('fog 6', 'severity 6 is unknown; choose from 1, 2, 3, 4, 5'),
        ('fog 0', 'severity 0 is unknown'),
    ],
)
def test_a_text_that_is_no_cell_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        Cell.parse(text)


@pytest.mark.parametrize('severity', [1.0, True, '1', None])
def test_a_severity_is_a_whole_number(severity):
    with pytest.raises(ValueError, match=r'severity .* is unknown'):
        Cell('fog', severity)


def test_groups_hold_the_kinds_once():
    four = ('noise', 'blur', 'weather', 'digital')
    assert sum((GROUPS[name] for name in four), ()) == GROUPS['benchmark'] == KINDS
    assert GROUPS['all'] == KINDS + EXTRA_KINDS
    assert [cell.is_extra for cell in cells_of(GROUPS['all'], [1])] == [False] * 15 + [True] * 4
