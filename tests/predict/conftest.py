"""A small classifier and a photo that the tests of prediction share."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from backbones.checkpoint import save_model
from backbones.record import ModelRecord

CLASSES = [f'kind {k}' for k in range(10)]


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory) -> Path:
    """A student of ten classes as training leaves it, untrained."""
    torch.manual_seed(0)
    network = timm.create_model('test_resnet', num_classes=10)
    path = tmp_path_factory.mktemp('student') / 'student_best.pth'
    save_model(path, network, ModelRecord(
        'test_resnet', {'num_classes': 10}, classes=CLASSES, input_size=[3, 32, 32], mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.25, 0.3],
    ))  # fmt: skip
    return path


@pytest.fixture(scope='session')
def photo() -> Image.Image:
    """A photo of 48 × 32 pixels in which no turn or mirror image equals another."""
    rows, columns = np.mgrid[:32, :48]
    noise = np.random.default_rng(0).integers(0, 40, (32, 48, 3))
    pixels = np.stack([4 * columns, 6 * rows, columns + 2 * rows], axis=-1) + noise
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture
def photos(photo, tmp_path) -> Path:
    """A folder of five photos, two of which have the same name without the ending, and two the same name."""
    folder = tmp_path / 'photos'
    (folder / 'more').mkdir(parents=True)
    for place, name in enumerate(('a.png', 'a.jpg', 'b.png', 'more/a.png', 'more/c.webp')):
        photo.rotate(90 * place).save(folder / name)
    return folder
