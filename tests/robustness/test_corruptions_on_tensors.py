"""The corruptions on tensors: the levels of the corruptions of one image, with the same random numbers."""

import numpy as np
import pytest
import torch
from photos import photo

from distill.api.evaluate import evaluate
from distill.base.records import Cell, cells_of
from distill.corruptions import EXTRA_KINDS, KINDS, SEVERITIES, corrupt
from distill.corruptions.tensors.table import corrupt_drawn, draw

ROUNDED = {
    'defocus_blur': (1, 1e-4),
    'motion_blur': (1, 1e-4),
    'zoom_blur': (1, 1e-4),
    'gaussian_blur': (1, 1e-4),
    'snow': (1, 1e-4),
    'fog': (1, 1e-4),
    'elastic_transform': (8, 1e-4),
}
"""Kinds that are computed in single precision: most levels that a value is off, and share of the values that are."""


def pictures(height: int, width: int) -> np.ndarray:
    """Photos, areas of one level, edges and noise: uint8 [6, height, width, 3]."""
    y, x = np.mgrid[:height, :width]
    board = np.repeat(((y // 3 + x // 3) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    flat = [np.full((height, width, 3), level, np.uint8) for level in (90, 255)]
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([photo(height, width, 0), photo(height, width, 1), *flat, board, noise])


def on_tensors(images: np.ndarray, cells: list[Cell], seeds: list, definition: str = 'imagenet_c') -> np.ndarray:
    """Images in several cells [B, cells, H, W, 3], as a card makes them."""
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    made = corrupt_drawn(tensors, cells, draw(images, cells, seeds, definition), definition)
    return made.permute(0, 1, 3, 4, 2).numpy()


@pytest.mark.parametrize('kind', KINDS + EXTRA_KINDS)
@pytest.mark.parametrize('size', [(32, 32), (33, 47), (80, 64)])
def test_levels_are_those_of_one_image(kind, size):
    images, seeds = pictures(*size), [(5, index) for index in range(6)]
    cells = [Cell(kind, severity) for severity in SEVERITIES]
    found = on_tensors(images, cells, seeds)
    expected = np.stack([corrupt(images, kind, severity, seeds) for severity in SEVERITIES], axis=1)
    most, share = ROUNDED.get(kind, (0, 0))
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= most
    assert (difference > 0).mean() <= share


@pytest.mark.parametrize('kind', ['elastic_transform', 'frost'])
def test_the_other_definition_too(kind):
    images, seeds = pictures(48, 40), list(range(6))
    found = on_tensors(images, [Cell(kind, 4)], seeds, 'imagecorruptions')[:, 0]
    expected = corrupt(images, kind, 4, seeds, 'imagecorruptions')
    assert np.abs(found.astype(int) - expected).max() <= ROUNDED.get(kind, (0, 0))[0]
    assert (found != corrupt(images, kind, 4, seeds)).mean() > 0.1


def test_an_image_does_not_depend_on_its_batch():
    images, seeds = pictures(36, 40), [(1, index) for index in range(6)]
    cells = [cell for cell in cells_of(KINDS) if cell.severity == 3]
    together = on_tensors(images, cells, seeds)
    for index in (1, 4):
        alone = on_tensors(images[index : index + 1], cells, seeds[index : index + 1])[0]
        difference = np.abs(alone.astype(int) - together[index])
        # Sums in single precision may be taken in another order for another batch.
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-4


def test_predictions_are_those_of_images_corrupted_by_the_workers(checkpoints, shapes, tmp_path):
    options = dict(corruption_limit=12, suites=['clean', 'corruption'], device='cpu', progress=False)
    confidence, entries = {}, {}
    for where, workers in (('cpu', 0), ('device', 1)):
        found = evaluate(checkpoints[0], shapes, out=tmp_path / where, corrupt_on=where, workers=workers, **options)
        ((run, scores),) = found.content['classification'].items()
        entries[where] = scores['corruption']
        with np.load(tmp_path / where / 'predictions' / run / 'corruption.npz') as stored:
            confidence[where] = stored['confidence']
    np.testing.assert_allclose(confidence['device'], confidence['cpu'], atol=1e-4)
    assert confidence['cpu'].std() > 1e-3
    assert [entries[where].get('corrupted_on') for where in ('cpu', 'device')] == [None, 'cpu']
    with pytest.raises(ValueError, match='holds results of other corrupted_on'):
        evaluate(checkpoints[0], shapes, out=tmp_path / 'device', **options)
    with pytest.raises(ValueError, match="corrupt_on 'card' is unknown; choose from cpu, device"):
        evaluate(checkpoints[0], shapes, corrupt_on='card')
