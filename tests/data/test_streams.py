"""Streams of unknown length: what is shown at a place follows from the place alone, whoever reads and whenever."""

import itertools
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from distill.data.stream_views import StreamSampler, StreamViews

TRANSFORM = dict(input_size=16, is_training=True)


def put(path: Path, number: int) -> Path:
    Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(path)
    return path


@pytest.fixture(scope='module')
def shards(tmp_path_factory) -> Path:
    """Twenty-one images in two shards, with masks and other files beside them."""
    root = tmp_path_factory.mktemp('stream')
    for shard, part in enumerate((range(9), range(9, 21))):
        with tarfile.open(root / f'x-{shard}.tar', 'w') as tar:
            for number in part:
                tar.add(put(root / 'x.png', number), f'{number:02d}.png')
                tar.add(put(root / 'x.png', 200), f'{number:02d}.jpg')
                tar.add(root / 'x.png', f'{number:02d}.txt')
            tar.add(root / 'x.png', '__MACOSX/1.png')
    return root


def opened(root: str | Path, **options) -> StreamViews:
    return StreamViews(str(root), **{'transform': TRANSFORM, 'seed': 3, 'block': 6, **options})


def keys(views: StreamViews, places) -> list[tuple[int, int]]:
    return [views[place][2:4] for place in places]


def test_a_pass_has_every_image_once_and_the_odd_one_never(shards):
    views = opened(shards, transform=dict(input_size=16))
    one = [views[place] for place in range(40)]
    assert [int(view[0].float().mean().round()) for view in one] == [view[2] for view in one]
    for number in (0, 1):
        part = one[20 * number : 20 * number + 20]
        assert {view[3] for view in part} == {number}
        assert sorted(view[2] for view in part) == list(range(20))
        # Shuffled within blocks of six.
        assert [{view[2] for view in part[k : k + 6]} for k in (0, 6)] == [{*range(6)}, {*range(6, 12)}]
    assert [view[2] for view in one[:20]] != [view[2] for view in one[20:]]
    assert keys(opened(shards, shuffle=False), range(22)) == [(k % 20, k // 20) for k in range(22)]
    assert {view[1] for view in one} == {-1}


def test_what_is_shown_follows_from_the_place_alone(shards):
    views = opened(shards)
    expected = [views[place] for place in range(64)]
    for order in ([63, 2, 41, 5], range(50, 64), range(0, 64, 7)):
        other = opened(shards)
        for place in order:
            found = other[place]
            assert found[2:] == expected[place][2:]
            assert torch.equal(found[0], expected[place][0])
    assert keys(opened(shards, seed=4), range(20)) != keys(views, range(20))


def test_repeated_views_of_a_block_come_before_the_next_block_is_read(shards):
    views = opened(shards, repeats=3)
    found = keys(views, range(120))  # Two passes of 20 images, three times each; the last block has two.
    for number in (0, 1):
        part = found[60 * number : 60 * number + 60]
        assert sorted(part) == sorted((image, 3 * number + view) for image in range(20) for view in range(3))
        assert [{image for image, _ in part[k : k + 18]} for k in (0, 18, 54)] == [
            {*range(6)}, {*range(6, 12)}, {18, 19}
        ]  # fmt: skip
    orders = [[image for image, _ in found[k : k + 6]] for k in (0, 6, 12)]
    assert orders[0] != orders[1]
    again = opened(shards, repeats=3)
    assert keys(again, [119, 3, 61]) == [found[119], found[3], found[61]]
    # What is random about a view is its own.
    assert len({views[k][4] for k in range(60)}) == 60
    # Once is what it was.
    assert keys(opened(shards, repeats=1), range(50)) == keys(opened(shards), range(50))


@pytest.mark.parametrize('workers', [0, 2])
def test_workers_and_processes_share_the_stream(shards, workers):
    views = opened(shards)
    expected = keys(views, range(48))
    sampler = StreamSampler(views)
    batches = iter(DataLoader(views, batch_size=4, sampler=sampler, num_workers=workers))
    found = [list(map(tuple, torch.stack(next(batches)[2:4], 1).tolist())) for _ in range(12)]
    assert list(itertools.chain(*found)) == expected
    # Two processes see together what one sees with twice the batch; a resumed run starts where it was.
    for start in (0, 24):
        dealt = []
        for rank in (0, 1):
            sampler.rank, sampler.world_size, sampler.start = rank, 2, start
            dealt.append([place for place, _ in zip(sampler, range(12), strict=False)])
        assert sorted(dealt[0] + dealt[1]) == list(range(start, start + 24))
        assert {*dealt[0][:4], *dealt[1][:4]} == {*range(start, start + 8)}


def test_pipes(shards, tmp_path):
    both = keys(opened(shards / 'x-1.tar'), range(30))
    pipe = opened(f'pipe:cat {shards}/x-1.tar')
    assert keys(pipe, range(30)) == both
    assert keys(pipe, [29, 3]) == [both[29], both[3]]
    for command, message in (
        *(
            (f'head -c {size} {shards}/x-1.tar', r"'pipe:head .*' is damaged \(unexpected end")
            for size in (9216, 9300, 9800)
        ),
        (f'cat {shards}/x-1.tar; exit 3', r"command 'cat .*' has ended with status 3; correct it"),
    ):
        with pytest.raises(ValueError, match=message):
            keys(opened(f'pipe:{command}'), range(13))
    with pytest.raises(ValueError, match='has ended with status 1'):
        opened(f'pipe:cat {tmp_path}/none.tar')


def test_hugging_face_data_sets_are_streamed(shards, tmp_path, monkeypatch):
    datasets = pytest.importorskip('datasets')
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_OFFLINE', True)
    paths = [str(put(tmp_path / f'{number:02d}.png', number)) for number in range(20)]
    (tmp_path / 'hub').mkdir()
    table = datasets.Dataset.from_dict({'image': paths}).cast_column('image', datasets.Image())
    table.to_parquet(tmp_path / 'hub' / 'train.parquet')
    views = StreamViews(str(tmp_path / 'cache'), name=f'hfds/{tmp_path / "hub"}', transform=TRANSFORM, seed=3, block=6)
    expected = opened(shards)
    for place in (0, 7, 19, 20, 45):
        assert views[place][2:] == expected[place][2:]
        assert torch.equal(views[place][0], expected[place][0])


def test_mistakes_and_broken_images(shards, tmp_path):
    for options, message in (
        (dict(split='val'), r"has no shards '\*val\*.tar'; correct root or split"),
        (dict(name='tfds/x'), "stream 'tfds/x' is unknown; choose ''"),
        (dict(block=5), 'block is 5; give an even number'),
        (dict(repeats=0), 'repeats is 0; give a whole number of 1 or more'),
        (dict(labels=True), r'a stream is read without labels; set dataset.labels=False'),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            opened(shards, **options)
    with tarfile.open(tmp_path / 'one.tar', 'w') as tar:
        tar.add(shards / 'x.png', 'a.png')
    with pytest.raises(ValueError, match=r"one.tar' has 1 image; give a stream of two or more"):
        opened(tmp_path / 'one.tar')
    shutil.copy(shards / 'x.png', tmp_path / 'good.png')
    (tmp_path / 'bad.png').write_bytes(b'x')
    with tarfile.open(tmp_path / 'some.tar', 'w') as tar:
        for number in range(12):
            tar.add(tmp_path / ('bad.png' if number == 9 else 'good.png'), f'{number:02d}.png')
    with pytest.raises(ValueError, match=r"09.png' cannot be decoded"):
        keys(opened(tmp_path / 'some.tar'), range(12))
    views = opened(tmp_path / 'some.tar', on_broken='skip', max_broken=1)
    found = keys(views, range(12))
    assert len(found) == 12
    assert 9 not in [image for image, _ in found]
    assert int(views.broken) == 1
