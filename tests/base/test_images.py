"""Images are decoded or refused in one line, and normalised in one way."""

import logging
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from distill.base import images
from distill.base.images import STORED_MODES, decode, normalise, read_image, renormalise

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_normalise_is_its_formula_to_the_last_bit(memory_format):
    images = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8).to(memory_format=memory_format)
    before = images.clone()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    found = normalise(images, MEAN, STD)
    assert torch.equal(found, (images.float() / 255 - mean) / std)
    assert torch.equal(found, normalise(images, mean, std))
    assert found.is_contiguous(memory_format=memory_format)
    assert torch.equal(images, before)
    # Floats stay as they are, too.
    floats = before.float()
    normalise(floats, MEAN, STD)
    assert torch.equal(floats, before.float())


def test_renormalised_images_are_those_of_the_other_model():
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    half = torch.full_like(mean, 0.5)
    torch.testing.assert_close(
        renormalise(normalise(images, mean, std), mean, std, half, half), normalise(images, half, half)
    )


@pytest.mark.parametrize(
    ('image', 'name', 'message'),
    [
        (Image.new('RGB', (1, 1)), 'x.png', 'x.png. has 1x1 pixels, and the least is 8x8; replace or delete it'),
        (Image.new('F', (40, 40)), 'x.tiff', 'x.tiff. cannot be decoded .it is stored as F, whose range is unknown'),
        (Image.new('I', (40, 40)), 'x.tiff', 'x.tiff. cannot be decoded .it is stored as I, whose range is unknown'),
    ],
)
def test_images_that_show_nothing(tmp_path, image, name, message):
    image.save(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        read_image(tmp_path / name)


@pytest.mark.parametrize('name', ['x.png', 'x.tiff', 'x.pgm'])
@pytest.mark.parametrize('factor', [256, 257])
def test_16_bits_are_scaled_and_not_clipped(tmp_path, name, factor):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels * factor).save(tmp_path / name)
    image, mode = read_image(tmp_path / name)
    assert mode == STORED_MODES[-1] == 'I;16'
    assert (np.asarray(image) == levels[..., None]).all()


def test_an_image_comes_with_the_mode_that_it_is_stored_in(tmp_path):
    Image.new('L', (8, 8), 77).save(tmp_path / 'grey.png')
    image, mode = read_image(tmp_path / 'grey.png')
    assert (image.mode, mode, image.getpixel((3, 3))) == ('RGB', 'L', (77, 77, 77))


def test_a_truncated_image_is_named(tmp_path):
    path = tmp_path / 'x.png'
    Image.effect_noise((40, 40), 50).save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"x\.png' cannot be decoded \(.*\); replace or delete it"):
        decode(path.open('rb'), lambda: path)


def test_scaling_is_said_once_and_not_by_every_worker(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(images, '_said', set())
    logger = logging.getLogger(images.__name__)
    monkeypatch.setattr(logger, 'handlers', [logging.StreamHandler(sys.stderr)])
    paths = [tmp_path / f'{k}.png' for k in range(8)]
    for path in paths:
        Image.fromarray(np.full((8, 8), 777, np.uint16)).save(path)
    loader = DataLoader(paths, 1, num_workers=2, collate_fn=lambda batch: decode(batch[0].open('rb'), str).size)
    assert list(loader) == [(8, 8)] * 8
    assert capfd.readouterr().err == 'images with 16 bits a channel are scaled to 8 bits\n'
