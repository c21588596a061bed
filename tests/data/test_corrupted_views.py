"""Corrupted copies of views: beside the clean ones, which stay as they are, and mixed and erased alike."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from distill.corruptions.training import TrainingCorruption
from distill.data.memory import MemoryViews
from distill.data.preprocessor import ViewPreprocessor
from distill.data.views import Views

TRANSFORM = dict(input_size=32, is_training=True, scale=(0.5, 1.0), ratio=(0.8, 1.25), color_jitter=0.4)
CORRUPT = dict(kinds=('holdout', 'augmix', 'prime'), copies=2)
KEYS = [(index, 2) for index in range(16)]


@pytest.fixture(scope='module', params=[Views, MemoryViews])
def sets(request, shapes) -> tuple[Views, Views]:
    """The same set without copies and with two of each view."""
    given = dict(transform=TRANSFORM, seed=3)
    return tuple(request.param(str(shapes), 'train', **given, corrupt=corrupt) for corrupt in (None, CORRUPT))


def collated(dataset: Views, keys=KEYS, **options) -> list[torch.Tensor]:
    return next(iter(DataLoader(dataset, batch_sampler=[keys], **options)))


def test_the_clean_view_stays_bit_for_bit_and_copies_come_of_it(sets):
    plain, with_copies = map(collated, sets)
    assert len(plain) == 5
    for expected, found in zip(plain, with_copies, strict=False):
        assert torch.equal(found, expected)
    corruption = TrainingCorruption(**CORRUPT)
    for place in (0, 7):
        view = plain[0][place].permute(1, 2, 0).numpy()
        expected = corruption.copies_of(np.ascontiguousarray(view), (3, 2, place)).transpose(0, 3, 1, 2)
        assert np.array_equal(with_copies[5][place], expected)


def test_copies_follow_from_seed_image_and_view_in_any_batch_and_worker(sets):
    whole = collated(sets[1])[5]
    assert torch.equal(collated(sets[1], KEYS[::-1], num_workers=2)[5].flip(0), whole)
    assert torch.equal(collated(sets[1], [KEYS[5]])[5][0], whole[5])
    assert not torch.equal(collated(sets[1], [(5, 3)])[5][0], whole[5])


@pytest.mark.parametrize('mode', ['pair', 'batch', 'elem'])
def test_copies_are_erased_and_mixed_as_their_views(sets, mode):
    mixup = dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=10, mode=mode)
    preprocessor = ViewPreprocessor(random_erasing=0.7, mixup=mixup)
    plain, data = map(collated, sets)

    def prepared(data: list[torch.Tensor]) -> tuple[dict, float]:
        np.random.seed(4)
        return preprocessor(data, True), np.random.rand()

    (expected, after), (found, after_copies) = prepared(plain), prepared(data)
    assert 'corrupted' not in expected
    assert after == after_copies
    for name in ('images', 'targets', 'keys'):
        assert torch.equal(found[name], expected[name])
    assert not torch.equal(found['corrupted'][:16], expected['images'])
    # Copies that are not corrupted at all end as their views do: the same patches, noise, partners and boxes.
    data[5] = torch.stack([data[0], data[0]], dim=1)
    assert torch.equal(prepared(data)[0]['corrupted'], torch.cat([expected['images']] * 2))


def test_the_order_of_copies_is_that_of_timms_splits(sets):
    data = collated(sets[1])
    found = ViewPreprocessor()(data, True)['corrupted']
    for copy in (0, 1):
        shown = [data[0], *data[1:5]]
        shown[0] = data[5][:, copy]
        assert torch.equal(found[16 * copy : 16 * (copy + 1)], ViewPreprocessor()(shown, True)['images'])
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_what_cannot_be_is_refused_before_the_data_are_read(tmp_path):
    with pytest.raises(ValueError, match="corruption 'fog' is one of the kinds that students are judged by"):
        Views(str(tmp_path / 'nothing'), corrupt=dict(kinds=('fog',)))
    with pytest.raises(
        ValueError, match="'spatter' wants images of at least 32 pixels and these have 24; choose from pos"
    ):
        Views(str(tmp_path / 'nothing'), transform=dict(input_size=24), corrupt=dict(kinds=('prime', 'spatter')))
