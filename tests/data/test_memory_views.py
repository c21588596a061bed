"""Views of images in memory: each follows from (seed, image, view) alone, bit for bit, and shows what it says."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from distill.data import memory
from distill.data.memory import MemoryViews, crop_and_flip, random_numbers, recolour
from distill.data.preprocessor import ViewPreprocessor
from distill.data.sampler import ViewSampler
from distill.data.views import Views
from distill.teachers.cache.describe import describe_run

TRANSFORM = dict(input_size=32, is_training=True, scale=(0.5, 1.0), ratio=(0.8, 1.25), color_jitter=0.4)


@pytest.fixture(scope='module')
def views(shapes) -> MemoryViews:
    return MemoryViews(str(shapes), 'train', transform=TRANSFORM, seed=3)


@pytest.mark.parametrize('workers', [0, 2])
def test_a_view_is_the_same_bit_for_bit_in_any_batch_and_process(views, workers):
    keys = [(index, index % 5) for index in range(40)]
    whole = next(iter(DataLoader(views, batch_sampler=[keys])))
    for size in (1, 7):
        batches = [keys[start : start + size] for start in range(0, 40, size)]
        parts = zip(*DataLoader(views, batch_sampler=batches, num_workers=workers), strict=True)
        for value, expected in zip(map(torch.cat, parts), whole, strict=True):
            assert torch.equal(value, expected)
    assert torch.equal(views[3, 3][0], whole[0][3])


def test_a_view_follows_from_seed_image_and_view(views, shapes):
    again = MemoryViews(str(shapes), 'train', transform=TRANSFORM, seed=3)
    assert torch.equal(again[5, 2][0], views[5, 2][0])
    assert again[5, 2][4] == views[5, 2][4]
    others = [again[5, 3], MemoryViews(str(shapes), 'train', transform=TRANSFORM, seed=4)[5, 2]]
    for other in others:
        assert not torch.equal(other[0], views[5, 2][0])
        assert other[4] != views[5, 2][4]


def test_views_that_are_held_are_those_that_are_made(views, shapes, monkeypatch):
    monkeypatch.setattr(memory, '_HELD', {})
    monkeypatch.setattr(memory, '_HELD_VIEWS', {})
    monkeypatch.setattr(memory, 'AT_A_TIME', 7)
    keys = [(index, (5 * index) % 3) for index in range(len(views))]
    made = views.__getitems__(keys)
    memory.hold_images(str(shapes), ['train'], 32)
    memory.hold_views(3, root=str(shapes), split='train', transform=TRANSFORM, seed=3)
    again, other = (MemoryViews(str(shapes), 'train', transform=TRANSFORM, seed=seed) for seed in (3, 4))
    with monkeypatch.context() as patch:
        patch.setattr(memory, 'crop_and_flip', None)  # Nothing is made anew.
        held = again.__getitems__(keys)
    for one, another in zip(held, made, strict=True):
        assert torch.equal(one[0], another[0])
        assert one[1:] == another[1:]
    assert torch.equal(again[5, 3][0], views[5, 3][0])
    assert not torch.equal(other[5, 2][0], held[5][0])


def test_labels_keys_and_evaluation_are_those_of_views(shapes):
    transform = dict(input_size=24, interpolation='bicubic', crop_pct=1.0)
    own, plain = (kind(str(shapes), 'val', transform=transform) for kind in (MemoryViews, Views))
    order = own.classes[::-1]
    for dataset in (own, plain):
        dataset.order_classes(order, 'a test')
    for index in (0, 7, len(plain) - 1):
        assert np.array_equal(own[index][0], plain[index][0])
        assert own[index][1:4] == plain[index][1:4]


def test_random_numbers_are_uniform_and_independent():
    indices = np.repeat(np.arange(200), 50)
    draws, seeds = random_numbers(0, np.tile(np.arange(50), 200), indices, 4)
    assert ((draws >= 0) & (draws < 1)).all()
    np.testing.assert_allclose(draws.mean(axis=0), 0.5, atol=0.02)
    np.testing.assert_allclose(np.corrcoef(draws.T), np.eye(4), atol=0.05)
    assert len({*seeds.tolist()}) == len(seeds)
    assert seeds.min() >= 0


def test_a_whole_crop_changes_nothing_and_a_flip_turns_it_round():
    images = torch.randint(0, 256, (3, 3, 16, 20), dtype=torch.uint8)
    corners, sizes = np.zeros((3, 2)), np.tile([16.0, 20.0], (3, 1))
    result = crop_and_flip(images, corners, sizes, np.array([False, True, False]))
    assert torch.equal(result[0], images[0].float())
    assert torch.equal(result[1], images[1].flip(2).float())
    assert torch.equal(recolour(result.clone(), np.ones((3, 3))), result.byte())


def test_crops_are_bilinear_interpolation():
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    corner, size = np.array([[4.0, 6.0]]), np.array([[20.0, 24.0]])
    steps = [torch.from_numpy(corner[0, k] + size[0, k] * (np.arange(32) + 0.5) / 32) for k in (0, 1)]
    places = torch.stack([(steps[1] / 16 - 1).expand(32, 32), (steps[0] / 16 - 1).view(32, 1).expand(32, 32)], dim=2)
    grid = places.float().unsqueeze(0)
    expected = torch.nn.functional.grid_sample(images.float(), grid, align_corners=False, padding_mode='border')
    result = crop_and_flip(images, corner, size, np.array([False]))
    assert (result - expected).abs().max() <= 2


def test_recolouring_by_hand():
    image = torch.tensor([100.0, 50.0, 200.0]).view(1, 3, 1, 1)
    # Contrast 0 gives the gray of the mean, saturation 0 the own gray: (77·100 + 150·50 + 29·200) / 256 = 82.
    bright, flat, gray = (recolour(image.clone(), np.array([f]))[0].flatten().tolist()
                          for f in ([0.5, 1, 1], [1, 0, 1], [1, 1, 0]))  # fmt: skip
    assert bright == [50, 25, 100]
    assert flat == [82, 82, 82]
    assert gray == [82, 82, 82]


def test_what_it_cannot_do_is_said(shapes):
    with pytest.raises(ValueError, match=r"has no transform 'auto_augment'; choose from .*set dataset.type=Views"):
        MemoryViews(str(shapes), 'train', transform=dict(TRANSFORM, auto_augment='rand-m9'))
    with pytest.raises(ValueError, match=r'takes 2\d\.\d GiB at 10000 px .* 4 GiB at most; set dataset.type=Views'):
        MemoryViews(str(shapes), 'train', transform=dict(TRANSFORM, input_size=10000))


def test_a_cache_of_other_views_is_told_apart(views, shapes):
    plain = Views(str(shapes), 'train', transform=TRANSFORM, seed=3)
    first, second = (describe_run(one, ViewSampler(one), ViewPreprocessor()) for one in (views, plain))
    assert first.data == second.data
    assert first.views != second.views
