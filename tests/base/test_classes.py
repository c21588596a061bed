"""Lists of classes are compared by name."""

import pytest
from timm.data import ImageNetInfo

from backbones.class_names import known_classes
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


def test_names_of_a_models_classes():
    config = dict(label_names=['b', 'a'])
    assert known_classes(None, config, 2) == ['b', 'a']
    assert known_classes(['x', 'y'], config, 2) == ['x', 'y']
    assert known_classes(None, dict(label_names={'1': 'b', '0': 'a'}), 2) == ['a', 'b']
    # A head of another size is another model's; and words for ImageNet's classes are no names of its folders.
    assert known_classes(None, config, 3) is None
    assert known_classes(None, {}, 2) is None
    info = ImageNetInfo()
    assert known_classes(None, dict(label_names=info.label_descriptions()), 1000) is None
    assert known_classes(None, dict(label_names=list(info.label_names())), 1000) == list(info.label_names())
