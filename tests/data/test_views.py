"""Views: which an epoch has, which two are mixed, and that each is replayed bit for bit."""

import collections
import io
import random
import shutil
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import Mixup
from timm.data.distributed_sampler import RepeatAugSampler
from timm.data.random_erasing import RandomErasing
from torch.utils.data import DataLoader

from distill.data.plan import ViewPlan
from distill.data.preprocessor import ViewPreprocessor
from distill.data.readers import list_sha256
from distill.data.sampler import ViewSampler
from distill.data.views import Views

TRANSFORM = dict(input_size=32, is_training=True, auto_augment='rand-m9-mstd0.5-inc1')
MIXUP = dict(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=10, mode='pair')


@pytest.fixture(scope='module')
def views(shapes) -> Views:
    return Views(str(shapes), 'train', transform=TRANSFORM, seed=3)


def dealt(sampler: ViewSampler, epoch: int = 0, rank: int = 0, world_size: int = 1) -> list[tuple[int, int]]:
    """The keys that a process gets."""
    sampler.rank, sampler.world_size = rank, world_size
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    return keys


def collated(views: Views, keys) -> list[torch.Tensor]:
    return next(iter(DataLoader(views, batch_sampler=[keys])))


@pytest.mark.parametrize(('images', 'repeats'), [(80, 1), (7, 1), (600, 3), (80, 3), (9, 2)])
def test_rows_and_keys_are_each_others_inverse(images, repeats):
    plan = ViewPlan(images, repeats, seed=5)
    rows = np.arange(3 * plan.rows_per_epoch)
    keys = plan.keys(rows)
    assert len({*map(tuple, keys.tolist())}) == len(rows)
    assert keys[:, 0].max() < images
    assert {*keys[:, 1].tolist()} == {*range(3 * repeats)}
    shuffled = np.random.default_rng(0).permutation(rows)
    np.testing.assert_array_equal(plan.rows(keys[shuffled]), shuffled)


def test_an_epoch_has_every_image_once_and_leaves_an_odd_one_out():
    assert sorted(ViewPlan(80).keys(np.arange(80))[:, 0].tolist()) == list(range(80))
    plan = ViewPlan(7)
    left_out = [{*range(7)} - {*plan.keys(6 * epoch + np.arange(6))[:, 0].tolist()} for epoch in range(9)]
    assert {len(images) for images in left_out} == {1}
    assert len(set.union(*left_out)) > 1
    image = left_out[2].pop()
    with pytest.raises(ValueError, match=f'image {image} is not drawn in view 2'):
        plan.rows(np.array([(image, 2)]))


@pytest.mark.parametrize('world_size', [1, 2, 4])
def test_repeated_augmentation_is_timms(world_size):
    class Images(list):
        seed = 0

    images = Images(range(600))
    sampler = ViewSampler(images, seed=0, repeats=3)
    keys = [dealt(sampler, epoch=2, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(of_rank) for of_rank in keys} == {len(RepeatAugSampler(images, world_size, 0))}
    together = [key for of_rank in keys for key in of_rank]
    assert len({*together}) == len(together) == 512
    assert {view for _, view in together} == {6, 7, 8}
    assert max(collections.Counter(image for image, _ in together).values()) == 3
    if world_size == 4:
        assert all(len({image for image, _ in of_rank}) == len(of_rank) for of_rank in keys)


def test_processes_see_together_what_one_sees_with_their_batches_together(views):
    sampler = ViewSampler(views, seed=1)
    alone = dealt(sampler, epoch=4)
    two = [dealt(sampler, epoch=4, rank=rank, world_size=2) for rank in (0, 1)]
    for start in range(0, 40, 10):
        assert {*two[0][start : start + 10], *two[1][start : start + 10]} == {*alone[2 * start : 2 * start + 20]}


def test_partners_follow_from_the_views_seed_and_the_order_from_the_runs(views, shapes):
    def pairs(views, seed, epoch=0):
        keys = dealt(ViewSampler(views, seed=seed), epoch)
        return list(zip(keys[::2], keys[1::2], strict=True))

    assert pairs(views, 0) != pairs(views, 1)
    assert {*pairs(views, 0)} == {*pairs(views, 1)}
    assert pairs(views, 0) == pairs(views, 0)
    assert not {*pairs(views, 0)} & {*pairs(views, 0, epoch=1)}
    other = Views(str(shapes), 'train', transform=TRANSFORM, seed=4)
    assert {*pairs(other, 0)} != {*pairs(views, 0)}


def test_views_start_again_after_the_epochs_of_a_cache(views):
    sampler = ViewSampler(views, seed=0)
    sampler.epochs = 2
    assert {*dealt(sampler, 4)} == {*dealt(sampler, 0)} == {(index, 0) for index in range(80)}
    assert dealt(sampler, 4) != dealt(sampler, 0)


def test_view_is_fixed_by_seed_image_and_view(views, shapes):
    again = Views(str(shapes), 'train', transform=TRANSFORM, seed=3)
    first = views[5, 2][0]
    _ = again[7, 0], torch.rand(3)
    assert (again[5, 2][0] == first).all()
    assert (views[5, 3][0] != first).any()
    assert (Views(str(shapes), 'train', transform=TRANSFORM, seed=4)[5, 2][0] != first).any()


def test_a_view_is_the_same_bit_for_bit_in_any_batch(views):
    preprocessor = ViewPreprocessor(random_erasing=0.7, mixup=MIXUP)
    keys = dealt(ViewSampler(views, seed=0), 3)[:16]
    whole = preprocessor(collated(views, keys), True)
    assert whole['images'].is_contiguous(memory_format=torch.channels_last)
    assert whole['keys'].tolist() == [list(key) for key in keys]
    torch.testing.assert_close(whole['targets'].sum(1), torch.ones(16))
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    order = [4, 5, 12, 13, 0, 1]
    part = preprocessor(collated(views, [keys[place] for place in order]), True)
    assert torch.equal(part['images'], whole['images'][order])
    assert torch.equal(part['targets'], whole['targets'][order])
    plain = preprocessor(collated(views, keys), False)['images']
    assert (whole['images'] != plain).flatten(1).any(1).sum() > 12


def test_augmenting_leaves_the_runs_generators_alone(views):
    data = collated(views, dealt(ViewSampler(views, seed=0))[:8])
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    expected = torch.rand(3).tolist(), np.random.rand(), random.random()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)
    ViewPreprocessor(random_erasing=0.7, mixup=MIXUP)(data, True)
    assert (torch.rand(3).tolist(), np.random.rand(), random.random()) == expected


@pytest.mark.parametrize('options', [{}, {'cutmix_alpha': 0.0}, {'cutmix_minmax': (0.2, 0.8)}, {'prob': 0.4}])
def test_pairs_are_mixed_and_erased_as_by_timm(views, options):
    mixup = {**MIXUP, **options}
    data = collated(views, dealt(ViewSampler(views, seed=0))[:16])
    expected = ViewPreprocessor()(data, False)['images']
    for image, seed in zip(expected, data[4].tolist(), strict=True):
        random.seed(seed), torch.manual_seed(seed)
        RandomErasing(0.5, mode='pixel', device='cpu')(image)
    result = ViewPreprocessor(random_erasing=0.5, mixup=mixup)(data, True)
    by_timm = Mixup(**{**mixup, 'mode': 'batch'})
    for start in range(0, 16, 2):
        pair = slice(start, start + 2)
        np.random.seed(data[4][start].item() % 2**32)
        images, targets = by_timm(expected[pair].clone(), data[1][pair])
        torch.testing.assert_close(result['images'][pair], images, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(result['targets'][pair], targets)


def test_batches_that_cannot_be_mixed_are_refused(views):
    preprocessor = ViewPreprocessor(mixup=MIXUP)
    with pytest.raises(ValueError, match=r'batch of 3 cannot be mixed in pairs; set an even batch_size'):
        preprocessor(collated(views, [(0, 0), (1, 0), (2, 0)]), True)
    with pytest.raises(ValueError, match='neighbours in the batch are no partners'):
        preprocessor(collated(views, [(0, 0), (1, 1)]), True)
    with pytest.raises(ValueError, match='need the seeds of the views'):
        preprocessor(collated(views, [(0, 0), (1, 0)])[:2], True)
    with pytest.raises(ValueError, match="mixup mode 'batch' depends on the batch and cannot be replayed"):
        ViewPreprocessor(mixup={**MIXUP, 'mode': 'batch'}).describe()
    # timm's own way to mix stays what it is.
    data = collated(views, [(0, 0), (1, 0)])
    np.random.seed(0)
    images, targets = Mixup(**{**MIXUP, 'mode': 'batch'})(ViewPreprocessor()(data)['images'], data[1])
    np.random.seed(0)
    result = ViewPreprocessor(mixup={**MIXUP, 'mode': 'batch'})(data, True)
    assert torch.equal(result['images'], images)
    assert torch.equal(result['targets'], targets)


@pytest.mark.parametrize('workers', [0, 2])
def test_a_tar_file_gives_the_views_of_its_folder(views, shapes, tmp_path, workers):
    with tarfile.open(tmp_path / 'train.tar', 'w') as tar:
        tar.add(shapes / 'train', arcname='.')
    packed = Views(str(tmp_path), 'train', transform=TRANSFORM, seed=3)
    assert packed.classes == views.classes
    assert len(packed) == len(views)
    # A handle opened before the workers start would be shared by them.
    assert torch.equal(packed[5, 1][0], views[5, 1][0])
    keys = [(index, index % 3) for index in range(20)]
    loader = DataLoader(packed, batch_sampler=[keys[:10], keys[10:]], num_workers=workers)
    for batch, expected in zip(loader, (keys[:10], keys[10:]), strict=True):
        for value, wanted in zip(batch, collated(views, expected), strict=True):
            assert torch.equal(value, wanted)
    assert Views(str(tmp_path / 'train.tar')).classes == views.classes


def test_webdataset_shards_give_the_views_of_their_folder(views, shapes, tmp_path):
    files = views.reader.filenames(absolute=True)
    for number, part in enumerate((range(0, 50), range(50, 80))):
        with tarfile.open(tmp_path / f'shapes-train-{number:04d}.tar', 'w') as tar:
            for index in part:
                tar.add(files[index], f'{index:04d}.jpg')
                label = str(views.reader[index][1]).encode()
                entry = tarfile.TarInfo(f'{index:04d}.cls')
                entry.size = len(label)
                tar.addfile(entry, io.BytesIO(label))
    sharded = Views(str(tmp_path), 'train', name='wds/shapes', transform=TRANSFORM, seed=3)
    assert sharded.classes == [str(label) for label in range(10)]
    keys = [(index, index % 3) for index in (79, 3, 50, 49)]
    loader = DataLoader(sharded, batch_size=4, sampler=keys, num_workers=2)
    for value, wanted in zip(next(iter(loader)), collated(views, keys), strict=True):
        assert torch.equal(value, wanted)
    assert sharded.reader.filename(50) == 'shapes-train-0001.tar/0050.jpg'
    assert len(list_sha256(sharded.reader)) == 64
    with pytest.raises(FileNotFoundError, match=r"has no shards '\*val\*.tar'"):
        Views(str(tmp_path), 'val', name='wds/shapes')
    shard = tmp_path / 'shapes-train-0001.tar'
    shard.write_bytes(shard.read_bytes()[:-20000])
    with pytest.raises(ValueError, match=f"shard '{shard}' is damaged"):
        Views(str(tmp_path), 'train', name='wds/shapes')
    with tarfile.open(shard, 'w') as tar:
        tar.add(files[0], 'alone.jpg')
    with pytest.raises(ValueError, match=r"'alone.jpg' in .* has no label"):
        Views(str(tmp_path), 'train', name='wds/shapes')


def test_list_hash_sees_names_labels_and_sizes(shapes, tmp_path):
    def hashed(root: Path) -> str:
        return list_sha256(Views(str(root), 'train').reader)

    shutil.copytree(shapes, tmp_path / 'copy')
    original = hashed(shapes)
    assert hashed(tmp_path / 'copy') == original
    image = sorted((tmp_path / 'copy' / 'train' / 'circle').iterdir())[0]
    content = image.read_bytes()
    image.write_bytes(content + b'\0')
    assert hashed(tmp_path / 'copy') != original
    image.unlink()
    image.with_name('renamed.png').write_bytes(content)
    assert hashed(tmp_path / 'copy') != original


@pytest.mark.parametrize('workers', [0, 2])
def test_broken_images_are_skipped_counted_and_limited(shapes, tmp_path, workers):
    shutil.copytree(shapes, tmp_path / 'set')
    files = sorted((tmp_path / 'set' / 'train' / 'circle').iterdir())[:3]
    root, transform = str(tmp_path / 'set'), dict(input_size=32)
    whole = Views(root, 'train', transform=transform)
    places = [whole.reader.filenames(absolute=True).index(str(file)) for file in files]
    next_image = whole[places[2] + 1][0]
    for file in files:
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"image '{files[0]}' cannot be decoded"):
        Views(root, 'train', transform=transform)[places[0]]

    keys = [(place, view) for view in range(2) for place in places]
    loader_of = lambda views: DataLoader(views, batch_size=1, sampler=keys, num_workers=workers)  # noqa: E731
    skipping = Views(root, 'train', transform=transform, on_broken='skip', max_broken=3)
    batches = list(loader_of(skipping))
    assert skipping.broken.sum() == 3
    assert [(int(index), int(view)) for _, _, index, view, _ in batches] == keys
    assert torch.equal(batches[2][0][0], next_image)
    with pytest.raises(ValueError, match='more than max_broken=2 images are broken'):
        list(loader_of(Views(root, 'train', transform=transform, on_broken='skip', max_broken=2)))
    with pytest.raises(ValueError, match="on_broken is 'ignore'; choose from raise, skip"):
        Views(root, 'train', on_broken='ignore')


def test_readers_without_an_index_are_refused():
    with pytest.raises(ValueError, match="reader 'tfds/x' gives images as a stream"):
        Views('/data', 'train', name='tfds/x')


@pytest.mark.skipif(find_spec('datasets') is not None, reason='the package is there')
def test_missing_reader_is_named():
    with pytest.raises(ValueError, match='needs the package datasets; get it by `pip install datasets`'):
        Views('/data', 'train', name='hfds/cifar10')


def pack(path: Path, root: Path, names: dict[str, str]) -> Path:
    """Write a tar file of images of a folder by their names in the tar file."""
    with tarfile.open(path, 'w') as tar:
        for name, source in names.items():
            tar.add(root / source, name)
    return path


def test_class_folders_in_a_tar_file_go_by_the_rules_of_folders(shapes, tmp_path):
    image = next((shapes / 'train' / 'circle').iterdir())
    names = [
        'cat/1.jpg',
        'cat/day/2.JPG',
        'cat/day/3.webp',
        'dog/1.jpg',
        'Eel/deep/deeper/1.png',
        '10/1.bmp',
        '9/1.jpg',
    ]
    junk = ['cat/._1.jpg', '__MACOSX/cat/1.jpg', 'dog/.ipynb_checkpoints/1.jpg', 'loose.jpg']
    for prefix in ('', './', 'train/', './train/2012/'):
        path = pack(tmp_path / 'x.tar', image.parent, {prefix + name: image.name for name in names + junk})
        views = Views(str(path))
        assert views.classes == ['9', '10', 'cat', 'dog', 'Eel']
        assert len(views) == len(names)
        found = {views.reader.filename(k): views.classes[views.reader[k][1]] for k in range(len(views))}
        assert all(name.removeprefix(prefix).split('/')[0] == label for name, label in found.items())
        assert views.reader.note.startswith(f"'{path}': left out ")
    # A tar file of tar files, as ImageNet's: each is a class.
    for name in ('n02', 'n01'):
        pack(tmp_path / f'{name}.tar', image.parent, {f'{name}_1.jpg': image.name, f'{name}_2.jpg': image.name})
    views = Views(str(pack(tmp_path / 'all.tar', tmp_path, {'n02.tar': 'n02.tar', 'n01.tar': 'n01.tar'})))
    assert (views.classes, len(views), views[3][1]) == (['n01', 'n02'], 4, 1)
    for content, message in (({}, 'has no image'), ({'1.jpg': image.name}, 'has no class folders')):
        with pytest.raises(ValueError, match=message):
            Views(str(pack(tmp_path / 'x.tar', image.parent, content)))
    (tmp_path / 'x.tar').write_bytes((tmp_path / 'all.tar').read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"x\.tar' is damaged"):
        Views(str(tmp_path / 'x.tar'))


def test_labels_follow_a_list_of_the_same_classes(shapes):
    views = Views(str(shapes), 'train', transform=dict(input_size=32))
    classes, labels = list(views.classes), [views.reader[k][1] for k in range(len(views))]
    views.order_classes(classes[::-1], 'the student')
    assert views.classes == views.metainfo['classes'] == classes[::-1]
    assert [views[k][1] for k in range(0, 80, 7)] == [9 - label for label in labels[::7]]
    views.order_classes(classes, 'the student')
    assert [views[k][1] for k in range(0, 80, 7)] == labels[::7]
    with pytest.raises(ValueError, match=r"train' lacks x \(1 of 10\) and has .* compared with the teacher: x, "):
        views.order_classes(['x', *classes[1:]], 'the teacher')


def test_16_bits_are_said_once_and_what_is_no_image_stops_before_training(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr('distill.base.images._said', set())
    for split in ('train', 'val'):
        for name in ('a', 'b'):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(np.full((40, 40), 200 * 256 + 7, np.uint16)).save(tmp_path / split / name / '1.png')
    sets = [Views(str(tmp_path), split, transform=dict(input_size=32)) for split in ('train', 'val')]
    assert all((views[0][0] == 200).all() for views in sets)
    lines = [line for line in ''.join(capfd.readouterr()).splitlines() if '16 bits' in line]
    assert len(lines) == 1
    assert f"images with 16 bits a channel, such as '{tmp_path}/train/a/1.png', are scaled to 8 bits" in lines[0]
    (tmp_path / 'train' / 'b' / '2.jpg').touch()
    with pytest.raises(ValueError, match=r"b/2\.jpg' cannot be decoded \(it is empty or no image\); replace or delete"):
        Views(str(tmp_path), 'train')
    assert len(Views(str(tmp_path), 'train', on_broken='skip')) == 3


def test_a_label_that_is_no_number_is_named(tmp_path, shapes):
    image = next((shapes / 'train' / 'circle').iterdir())
    (tmp_path / 'label').write_text('cat')
    with tarfile.open(tmp_path / 'train-0.tar', 'w') as tar:
        tar.add(image, '1.jpg')
        tar.add(tmp_path / 'label', '1.cls')
    with pytest.raises(ValueError, match=r"'1.cls' in '.*train-0.tar' is b'cat'; expected the number of a class"):
        Views(str(tmp_path), 'train', name='wds/')
