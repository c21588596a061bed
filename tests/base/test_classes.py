"""Lists of classes are compared by name."""

import pytest

from distill.base.classes import match_classes


def test_the_same_names_in_another_order_are_found():
    assert match_classes(['c', 'a', 'b'], ['a', 'b', 'c'], 'the validation set', 'the training set') == [2, 0, 1]


@pytest.mark.parametrize(
    ('found', 'message'),
    [
        (
            ['a', 'b', 'd'],
            'lacks c .1 of 3. and has d besides .1 of 3., compared with the model: a, b, c; both',
        ),
        (['a', 'b'], 'the file lacks c .1 of 3., compared with the model'),
        (['a', 'b', 'c', 'd'], 'the file has d besides .1 of 4., compared with the model'),
        (['a', 'b', 'a'], 'the file has a twice; a name stands for one class'),
    ],
)
def test_as_many_other_names_are_no_match(found, message):
    with pytest.raises(ValueError, match=message):
        match_classes(found, ['a', 'b', 'c'], 'the file', 'the model')
