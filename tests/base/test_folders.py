"""One reader decides what a class folder is, what an image is, and in which order classes come."""

import shutil

import pytest
from PIL import Image

from distill.base.folders import ClassFolders, class_folders, find_images, find_split, is_image, natural_key


def put(root, *paths: str) -> None:
    """Write small files; those that end like images are images."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if is_image(path.rpartition('/')[2]):
            Image.new('RGB', (8, 8)).save(root / path, 'PNG')
        else:
            (root / path).write_text('x')


def test_folders_of_a_set(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no folder 'val' nor 'val\.tar'; found no folder"):
        find_split(str(tmp_path), 'val')
    (tmp_path / 'validation').mkdir(parents=True)
    folder = find_split(str(tmp_path), 'val')
    assert folder == tmp_path / 'validation'
    with pytest.raises(ValueError, match=r"validation' has no class folders; expected .*/validation/<class>/<image>"):
        ClassFolders.read(folder)
    put(folder, '1.jpg')
    with pytest.raises(ValueError, match="validation' has images and no class folders; expected"):
        ClassFolders.read(folder)
    (folder / 'b').mkdir()
    with pytest.raises(ValueError, match=r"/b' has no image \(1 such\); fill or delete it$"):
        ClassFolders.read(folder)
    put(folder, 'b/1.heic', 'b/notes.txt')
    with pytest.raises(
        ValueError, match=r'delete it; it has other files \(2: b/1.heic, b/notes.txt\), and images end in .jpg'
    ):
        ClassFolders.read(folder)
    put(folder, 'a/1.jpg', 'b/1.jpg')
    assert ClassFolders.read(folder).classes == ['a', 'b']


def test_classes_are_visible_top_folders_in_natural_order(tmp_path):
    names = ['10', '2', '1', 'zebra', 'Banana', 'apple', 'größe', 'two words', '0', '00', '²', 'n01440764']
    put(tmp_path, *(f'{name}/1.png' for name in names))
    put(tmp_path, '.ipynb_checkpoints/1.png', '__MACOSX/1.png', '@eaDir/1.png', '.DS_Store', 'loose.png', 'readme.md')
    found = ClassFolders.read(tmp_path)
    assert found.classes == class_folders(tmp_path) == sorted(names, key=natural_key)
    assert found.classes[:4] == ['0', '00', '1', '2']
    assert [name for name in found.classes if name.lower() in ('apple', 'banana', 'zebra')] == [
        'apple',
        'Banana',
        'zebra',
    ]
    assert found.left_out.counts == {
        'hidden or system folders': 3,
        'other files': 2,
        'images beside the class folders': 1,
    }
    assert found.note().startswith(f"'{tmp_path}': left out ")
    assert 'hidden or system folders (3: .ipynb_checkpoints, @eaDir, __MACOSX)' in found.note()
    assert 'images beside the class folders (1: loose.png)' in found.note()


def test_nested_images_of_every_format_belong_to_the_top_folder(tmp_path):
    kept = [
        'cat/1.JPG',
        'cat/2.webp',
        'cat/day/3.bmp',
        'cat/day/dusk/4.TIFF',
        'cat/a b/ü.PnG',
        'cat/5.jfif',
        'dog/1.gif',
    ]
    junk = ['cat/._1.jpg', 'cat/Thumbs.db', 'cat/1.xml', 'dog/.ipynb_checkpoints/1-checkpoint.png', 'dog/film.mpg']
    put(tmp_path, *kept, *junk)
    (tmp_path / 'dog' / 'night').mkdir()
    found = ClassFolders.read(tmp_path)
    assert sorted(path for paths in found.images.values() for path in paths) == sorted(kept)
    assert sorted(found.images['cat']) == sorted(path for path in kept if path.startswith('cat'))
    assert found.left_out.counts == {'other files': 4, 'hidden or system folders': 1, 'empty folders': 1}
    assert found.left_out.names['hidden or system folders'] == ['dog/.ipynb_checkpoints']
    assert sorted(find_images(tmp_path)) == sorted(kept)


def test_links_are_followed_and_never_in_a_circle(tmp_path):
    put(tmp_path, 'store/deep/1.png', 'store/2.png', 'set/own/3.png')
    (tmp_path / 'set' / 'linked').symlink_to(tmp_path / 'store')
    (tmp_path / 'set' / 'own' / 'one.png').symlink_to(tmp_path / 'store' / '2.png')
    (tmp_path / 'set' / 'own' / 'lost.png').symlink_to(tmp_path / 'nowhere.png')
    (tmp_path / 'store' / 'deep' / 'up').symlink_to(tmp_path / 'store')
    found = ClassFolders.read(tmp_path / 'set')
    assert {name: sorted(paths) for name, paths in found.images.items()} == {
        'linked': ['linked/2.png', 'linked/deep/1.png'],
        'own': ['own/3.png', 'own/one.png'],
    }
    assert found.left_out.names == {'links to a folder above': ['linked/deep/up'], 'links to nothing': ['own/lost.png']}
    shutil.rmtree(tmp_path / 'store')
    # The class would vanish, and the classes after it would get other labels.
    with pytest.raises(
        ValueError, match="set' has links to nothing where class folders are: linked; restore or delete"
    ):
        ClassFolders.read(tmp_path / 'set')
