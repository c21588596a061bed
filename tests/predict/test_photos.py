"""Any image that a person has is shown as that person sees it."""

import numpy as np
import pytest
from PIL import Image

from distill.base.images import read_image
from distill.predict.photos import open_photo

STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera stores an upright scene, by EXIF's orientation."""


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode and np.array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('ending', ['png', 'tif', 'webp'])
def test_an_image_is_turned_as_its_exif_data_say_and_once(photo, tmp_path, orientation, ending):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = photo if orientation == 1 else photo.transpose(STORED[orientation])
    stored.save(tmp_path / f'x.{ending}', exif=exif, **({'lossless': True} if ending == 'webp' else {}))
    found = open_photo(tmp_path / f'x.{ending}')
    assert same(found.image, photo)
    assert found.orientation == orientation
    again = open_photo(found.image)
    assert same(again.image, photo)
    assert again.orientation == 1


@pytest.mark.parametrize('orientation', [0, 9, 77])
def test_an_orientation_that_does_not_exist_turns_nothing(photo, tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / 'x.png', exif=exif)
    assert same(open_photo(tmp_path / 'x.png').image, photo)


@pytest.mark.parametrize('name', ['x.png', 'x.jpg', 'x.webp', 'x.bmp', 'x.tiff', 'x.gif'])
def test_an_ordinary_image_has_the_pixels_that_the_judge_sees(photo, tmp_path, name):
    photo.save(tmp_path / name)
    found = open_photo(tmp_path / name)
    assert same(found.image, read_image(tmp_path / name)[0])
    assert found.as_stored


def test_transparent_parts_are_white_in_every_mode(photo, tmp_path):
    layered = photo.copy()
    layered.putalpha(Image.new('L', photo.size, 255))
    layered.paste((0, 0, 0, 0), (0, 0, 24, 32))
    for name, image in {
        'rgba.png': layered, 'la.png': layered.convert('LA'), 'palette.png': layered.quantize(64), 'rgba.webp': layered
    }.items():  # fmt: skip
        image.save(tmp_path / name, **({'lossless': True} if name.endswith('webp') else {}))
        found = open_photo(tmp_path / name)
        assert np.asarray(found.image)[:, :24].min() == 255, name
        assert np.asarray(found.image)[:, 30:].min() < 255, name
        assert found.notes == ('transparent parts over white',)
    assert same(open_photo(tmp_path / 'rgba.png').image.crop((24, 0, 48, 32)), photo.crop((24, 0, 48, 32)))


def test_an_opaque_alpha_channel_changes_nothing(photo, tmp_path):
    layered = photo.copy()
    layered.putalpha(255)
    layered.save(tmp_path / 'x.png')
    assert same(open_photo(tmp_path / 'x.png').image, photo)
    assert open_photo(tmp_path / 'x.png').as_stored


def test_16_bits_are_scaled_and_not_clipped(photo, tmp_path):
    gray = np.asarray(photo.convert('L'))
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / 'x.png')
    found = open_photo(tmp_path / 'x.png')
    assert np.array_equal(np.asarray(found.image)[..., 0], gray)
    assert found.notes == ('16 bits a channel scaled to 8',)


@pytest.mark.parametrize('name', ['x.gif', 'x.webp', 'x.tif', 'x.png'])
def test_of_a_moving_image_the_first_frame_is_shown_and_that_is_said(photo, tmp_path, name):
    options = {'lossless': True} if name == 'x.webp' else {}
    photo.save(tmp_path / name, save_all=True, append_images=[photo.rotate(180)], **options)
    found = open_photo(tmp_path / name)
    assert found.notes == ('the first of 2 frames',)
    difference = np.abs(np.asarray(found.image).astype(int) - np.asarray(photo)).mean()
    assert difference < 20  # A GIF has 256 colours; the other frame differs by 60.


def test_images_from_memory_are_left_as_they_are(photo):
    pixels = np.asarray(photo)
    assert same(open_photo(pixels).image, photo)
    assert same(open_photo(pixels[..., 0]).image, photo.getchannel(0).convert('RGB'))
    found = open_photo(photo)
    found.image.paste(0, (0, 0, 48, 32))
    assert np.array_equal(np.asarray(photo), pixels)


@pytest.mark.parametrize(
    'array', [np.zeros((4, 4, 3)), np.zeros((3, 4, 5), np.uint8), np.zeros((0, 4, 3), np.uint8)], ids=str
)
def test_an_array_of_another_kind_is_refused_with_the_kind_that_is_right(array):
    with pytest.raises(ValueError, match='give uint8'):
        open_photo(array)


def test_what_cannot_be_decoded_is_named_with_the_reason(photo, tmp_path, monkeypatch):
    photo.save(tmp_path / 'whole.jpg', progressive=True)
    content = (tmp_path / 'whole.jpg').read_bytes()
    broken = {
        'text.jpg': (b'no image', 'it is empty or no image'),
        'empty.png': (b'', 'it is empty or no image'),
        'half.jpg': (content[: len(content) // 2], 'truncated'),
        'phone.heic': (b'\0\0\0\x18ftypheic\0\0\0\0mif1heic', 'HEIC.*pillow-heif'),
    }
    for name, (data, reason) in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"image '.*{name}' cannot be decoded .*{reason}") as caught:
            open_photo(tmp_path / name)
        assert '\n' not in str(caught.value)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    with pytest.raises(ValueError, match=r'whole.jpg. has more than 200 pixels'):
        open_photo(tmp_path / 'whole.jpg')
    with pytest.raises(ValueError, match='no regular file'):
        open_photo(tmp_path)
