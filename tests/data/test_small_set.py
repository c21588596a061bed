"""The small copy of a user's images: parts, limits, what is broken, and images of any kind."""

import numpy as np
import pytest
from PIL import Image

from distill.data import small_set
from distill.data.small_set import find_source, smaller_side, write_small_set


def save(path, size=(40, 30), colour=(200, 10, 10), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, colour).save(path, **options)


@pytest.fixture
def photos(tmp_path):
    """Two classes of ten, some nested, with names of people."""
    root = tmp_path / 'my photos'
    for name in ('big dogs', 'Ünïcode'):
        for k in range(10):
            save(root / name / ('a trip/day 2' if k % 2 else '') / f'IMG {k}.jpg')
    return root


def test_parts_are_made_by_class_and_seed(photos):
    source = find_source(photos)
    assert source.is_split
    assert {part: [len(files) for files in classes.values()] for part, classes in source.images.items()} == {
        'train': [8, 8],
        'val': [2, 2],
    }
    for name in ('big dogs', 'Ünïcode'):
        assert not {*source.images['train'][name]} & {*source.images['val'][name]}
    assert find_source(photos) == source
    assert find_source(photos, seed=1) != source
    assert smaller_side(source) == 30


def test_a_users_parts_stay(tmp_path):
    for part, count in (('train', 3), ('validation', 2)):
        for name in 'ab':
            for k in range(count):
                save(tmp_path / part / name / f'{k}.png')
    source = find_source(tmp_path)
    assert not source.is_split
    assert {part: [len(files) for files in classes.values()] for part, classes in source.images.items()} == {
        'train': [3, 3],
        'val': [2, 2],
    }
    save(tmp_path / 'train' / 'c' / '0.png')
    with pytest.raises(ValueError, match=r'have different classes \(c\); give both the same folders'):
        find_source(tmp_path)


def test_no_more_images_than_there_is_room_for(photos, monkeypatch):
    monkeypatch.setattr(small_set, 'MOST', {'train': 9, 'val': 2})
    images = find_source(photos).images
    assert [len(files) for files in images['train'].values()] == [4, 4]
    assert [len(files) for files in images['val'].values()] == [1, 1]


def test_images_of_any_kind_are_turned_cut_and_written_once(photos, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # Turned by a quarter: the left half is to be on top.
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20] = 255
    Image.fromarray(pixels).save(photos / 'big dogs' / 'turned.png', exif=exif)
    Image.new('RGBA', (50, 50), (0, 0, 255, 128)).save(photos / 'big dogs' / 'clear.png')
    (photos / 'big dogs' / 'broken.jpg').write_bytes(b'\xff\xd8\xff nothing')
    source, out = find_source(photos), tmp_path / 'small'
    record = write_small_set(source, out, 16, 'here')
    assert [path.rpartition('/')[2] for path in record['broken']] == ['broken.jpg']
    images = [Image.open(path) for path in sorted(out.rglob('*.png'))]
    assert len(images) == sum(record['images'].values()) == 22
    assert {image.size for image in images} == {(16, 16)}
    arrays = [np.asarray(image.convert('L')).astype(int) for image in images]
    turned = [a for a in arrays if a.max() == 255 and a.min() == 0]
    assert len(turned) == 1
    assert (turned[0][:6] == 255).all()
    assert (turned[0][10:] == 0).all()
    assert write_small_set(source, out, 16, 'here') == record
    with pytest.raises(ValueError, match='holds a set of other images'):
        write_small_set(source, out, 24, 'here')


def test_what_no_set_can_be_made_of_is_said(tmp_path):
    save(tmp_path / 'one' / 'a' / '0.png')
    save(tmp_path / 'one' / 'a' / '1.png')
    with pytest.raises(ValueError, match=r"has one class, 'a'; give two or more"):
        find_source(tmp_path / 'one')
    save(tmp_path / 'two' / 'a' / '0.png')
    with pytest.raises(ValueError, match='has one image; two parts need two or more of each class'):
        find_source(tmp_path / 'two')
    for name in 'ab':
        for k in range(4):
            path = tmp_path / 'bad' / name / f'{k}.png'
            save(path)
            if name == 'b':
                path.write_bytes(b'no picture')
    with pytest.raises(ValueError, match="no image of class 'b' can be decoded"):
        write_small_set(find_source(tmp_path / 'bad'), tmp_path / 'out', 16, 'here')
    assert not (tmp_path / 'out').exists()
