"""Which files a user means, and the names of what is written about them."""

import os

import pytest

from distill.predict.files import find_files, shown, unique_names


def names(*arguments, out=None) -> list[str]:
    return [file.name for file in find_files([str(one) for one in arguments], out).files]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Files in a folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ('in/a.png', 'in/a.jpg', 'in/b10.png', 'in/b9.PNG', 'in/sub/a.png', 'in/phone.HEIC', 'other/a.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ('in/.hidden.png', 'in/notes.txt', 'in/.git/x.png'):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_names_keep_the_tree_of_a_folder_in_natural_order(tree):
    assert names('in') == ['a.jpg', 'a.png', 'b9.PNG', 'b10.png', 'phone.HEIC', 'sub/a.png']
    assert names(tree / 'in') == names('in')


def test_the_same_name_in_two_folders_stays_two_names(tree):
    assert names('in/a.png', 'other/a.png') == ['in/a.png', 'other/a.png']
    assert names('in/sub', 'other') == ['in/sub/a.png', 'other/a.png']


def test_an_image_that_is_given_twice_is_taken_once_and_that_is_said(tree):
    found = find_files(['in/a.png', 'in', './in/a.png'])
    assert [file.name for file in found.files].count('a.png') == 1
    assert any('given more than once' in note for note in found.notes)


def test_what_is_left_out_of_a_folder_is_said(tree):
    assert any('.hidden.png' in note and '.git' in note for note in find_files(['in']).notes)
    assert names('in/.hidden.png') == ['.hidden.png'], 'a file that is named is meant'


def test_a_pattern_takes_what_is_named_like_an_image(tree):
    assert names('in/*.png') == ['a.png', 'b10.png']
    assert names('in/**/*.png') == ['a.png', 'b10.png', 'sub/a.png']
    assert names('in/*') == names('in')
    (tree / 'in' / 'c[1].png').touch()
    assert names('in/c[1].png') == ['c[1].png'], 'a path that exists is no pattern'


def test_what_is_written_is_no_input_of_the_next_run(tree):
    (tree / 'in/out/pictures').mkdir(parents=True)
    (tree / 'in/out/pictures/a.png.jpg').touch()
    assert 'out/pictures/a.png.jpg' in names('in')
    assert 'out/pictures/a.png.jpg' not in names('in', out='in/out')


@pytest.mark.parametrize(
    ('argument', 'message'),
    [
        ('nothing.png', 'does not exist'),
        ('in/*.webp', 'no file fits the pattern'),
        ('in/*.txt', 'none is named like an image'),
        ('empty', "folder 'empty' has no image"),
        ('https://host/a.png', 'download it'),
        ('dead.png', 'link to nothing'),
    ],
)
def test_what_leads_to_no_image_is_an_error(tree, argument, message):
    (tree / 'empty').mkdir()
    (tree / 'dead.png').symlink_to('nowhere.png')
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        find_files([argument])


def test_names_never_collide():
    root = os.sep + 'r'
    paths = [f'{root}/{name}' for name in ('A.png', 'a.png', 'a~2.png', 'é.png', 'e\u0301.png')]
    paths += [f'{root}/{"x" * 200}{k}.png' for k in range(2)]
    written = unique_names(paths, root)
    assert len({name.casefold() for name in written}) == len(paths)
    assert max(len(name.encode()) for name in written) <= 150


def test_a_name_is_one_line_on_a_screen():
    assert shown('a\nb\x1b[0m\udcff.png') == 'a\\nb\\x1b[0m\\udcff.png'
