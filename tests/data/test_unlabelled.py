"""Training sets without labels: folders, lists, tar files, shards, Hugging Face data sets, and several with weights."""

import collections
import json
import tarfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from distill.data.memory import MemoryViews
from distill.data.plan import Source, WeightedPlan
from distill.data.preprocessor import ViewPreprocessor
from distill.data.readers import list_sha256
from distill.data.sampler import ViewSampler
from distill.data.views import Views
from distill.teachers.cache.describe import describe_run
from distill.teachers.cache.manifest import Layout, Manifest, ViewSettings, require_equal

TRANSFORM = dict(input_size=16, is_training=True)


def put(path: Path, number: int, **options) -> Path:
    """Write an image whose pixels tell its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 20, 3), number, np.uint8)).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    """Eight images in nested folders and several formats, and other things."""
    names = ['1.jpg', '2.png', 'a/3.webp', 'a/b/4.bmp', 'a/b/5.gif', 'c/6.tiff', 'c/10.ppm', 'c/7.JPEG']
    for number, name in enumerate(names):
        put(tmp_path / 'photos' / name, 10 * number + 1)
    for junk in ('notes.txt', '.hidden/x.jpg', '__MACOSX/1.jpg'):
        (tmp_path / 'photos' / junk).parent.mkdir(exist_ok=True)
        (tmp_path / 'photos' / junk).write_text('x')
    return tmp_path / 'photos'


def numbers(views: Views) -> list[int]:
    """What the images of a set tell of themselves."""
    plain = Views.__getitem__
    return sorted(int(plain(views, k)[0].float().mean().round()) for k in range(len(views)))


def shown(*args, **options) -> Views:
    return Views(*args, labels=False, transform=dict(input_size=16), **options)


def test_a_folder_gives_all_images_below_it_without_labels(photos, capfd):
    views = shown(str(photos))
    assert [views.reader.filename(k) for k in range(8)] == [
        *('1.jpg', '2.png', 'a/3.webp', 'a/b/4.bmp', 'a/b/5.gif', 'c/6.tiff', 'c/7.JPEG', 'c/10.ppm')
    ]
    assert {views[k][1] for k in range(8)} == {-1}
    assert (views.classes, views.named, views.metainfo, views.labelled) == ([], False, {}, False)
    assert 'left out hidden or system folders (2' in ''.join(capfd.readouterr())
    assert shown(str(photos), 'c').reader.filename(0) == '6.tiff'
    # Class folders of a labelled set are folders like others.
    assert len(shown(str(photos.parent))) == 8


def test_lists_name_images_relative_to_themselves_or_a_root(photos, tmp_path):
    (photos / 'some.txt').write_text('# mine\n2.png\n\nc/10.ppm\n')
    (tmp_path / 'other.lst').write_text(f'a/3.webp\n{photos}/1.jpg\n')
    assert numbers(shown(str(photos / 'some.txt'))) == numbers(shown(str(photos), 'some.txt')) == [11, 61]
    other = shown(str(photos), str(tmp_path / 'other.lst'))
    assert len(other) == 2
    assert other.reader.filename(0) == 'a/3.webp'
    with pytest.raises(ValueError, match=r"list '.*some.txt' has no labels; set dataset.labels=False"):
        Views(str(photos), 'some.txt')
    (photos / 'some.txt').write_text('2.png\ngone.jpg\nc/10.ppm\nlost/1.jpg\n')
    with pytest.raises(FileNotFoundError, match=r"names 2 of 4 images that are not there, the first 'gone.jpg' in '"):
        shown(str(photos), 'some.txt')
    (photos / 'some.txt').write_text('\n# 2.png\n')
    with pytest.raises(ValueError, match='names no image; write a path a line'):
        shown(str(photos), 'some.txt')
    with pytest.raises(FileNotFoundError, match=r"list of images '.*none.txt' does not exist"):
        shown(str(photos), 'none.txt')


def test_parquet_lists(photos):
    pyarrow = pytest.importorskip('pyarrow')
    parquet = pytest.importorskip('pyarrow.parquet')
    rows = {'caption': ['x', 'y'], 'path': ['2.png', 'c/10.ppm']}
    parquet.write_table(pyarrow.table(rows), photos / 'list.parquet')
    assert numbers(shown(str(photos / 'list.parquet'))) == [11, 61]
    structs = [{'path': '2.png', 'bytes': None}, {'path': None, 'bytes': b'x'}]
    parquet.write_table(pyarrow.table({'image': structs}), photos / 'list.parquet')
    with pytest.raises(ValueError, match=r"no path in 1 rows, the first 1, of its column 'image'; .*hfds/<folder>"):
        shown(str(photos), 'list.parquet')
    parquet.write_table(pyarrow.table({'caption': ['x']}), photos / 'list.parquet')
    with pytest.raises(ValueError, match='has the columns caption; call the one with paths path'):
        shown(str(photos), 'list.parquet')
    (photos / 'list.parquet').write_text('x')
    with pytest.raises(ValueError, match='is no Parquet file'):
        shown(str(photos), 'list.parquet')


def test_tar_files_and_shards_without_labels(photos, tmp_path):
    expected = numbers(shown(str(photos)))
    with tarfile.open(tmp_path / 'all.tar', 'w') as tar:
        tar.add(photos, arcname='.')
    for views in (shown(str(tmp_path / 'all.tar')), shown(str(tmp_path), 'all')):
        assert numbers(views) == expected
        assert views[3][1] == -1
        assert views.classes == []
    for part, chosen in enumerate((('1.jpg', '2.png'), ('a/3.webp',))):
        with tarfile.open(tmp_path / f'x-{part}.tar', 'w') as tar:
            for name in chosen:
                tar.add(photos / name, Path(name).name)
    shards = shown(str(tmp_path), 'x-', name='wds/')
    assert numbers(shards) == [1, 11, 21]
    assert (shards[0][1], shards.classes, shards.named) == (-1, [], False)
    with pytest.raises(ValueError, match=r'has no label; give it a .cls beside it, or set dataset.labels=False'):
        Views(str(tmp_path), 'x-', name='wds/')
    with tarfile.open(tmp_path / 'all.tar', 'w') as tar:
        tar.add(photos / 'notes.txt', 'notes.txt')
    with pytest.raises(ValueError, match=r"all.tar' has no image"):
        shown(str(tmp_path / 'all.tar'))


def test_hugging_face_data_sets_need_a_column_of_images_and_no_labels(photos, tmp_path, monkeypatch):
    datasets = pytest.importorskip('datasets')
    monkeypatch.setattr(datasets.config, 'HF_DATASETS_OFFLINE', True)
    paths = [str(photos / name) for name in ('1.jpg', '2.png', 'a/3.webp')]
    table = datasets.Dataset.from_dict({'photo': paths, 'text': ['x'] * 3})
    (tmp_path / 'hub').mkdir()
    table.cast_column('photo', datasets.Image()).to_parquet(tmp_path / 'hub' / 'train.parquet')
    name, root = f'hfds/{tmp_path / "hub"}', str(tmp_path / 'cache')
    views = shown(root, name=name)
    assert numbers(views) == [1, 11, 21]
    assert views[1][1] == -1
    assert len(list_sha256(views.reader)) == 64
    with pytest.raises(ValueError, match=r'cannot be read \(Unknown split .none.*\); correct it'):
        shown(root, 'none', name=name)
    with pytest.raises(FileNotFoundError, match=r"Hugging Face data set '.*nothing' is not there"):
        shown(root, name=f'hfds/{tmp_path / "nothing"}')
    table.to_parquet(tmp_path / 'hub' / 'train.parquet')
    with pytest.raises(ValueError, match='has no column of images, of photo, text'):
        shown(str(tmp_path / 'cache2'), name=name)
    table.rename_column('photo', 'image').cast_column('image', datasets.Image()).to_parquet(
        tmp_path / 'hub' / 'train.parquet'
    )
    with pytest.raises(ValueError, match=r"has no column 'label' but image, text; set dataset.labels=False"):
        Views(str(tmp_path / 'cache3'), 'train', name=name)


def test_mistakes_are_one_line_each(photos, tmp_path):
    (tmp_path / 'empty' / 'deep').mkdir(parents=True)
    with pytest.raises(ValueError, match=r"empty' has no image, nor have the folders below it; name a folder"):
        shown(str(tmp_path / 'empty'))
    (tmp_path / 'empty' / 'x.heic').touch()
    with pytest.raises(ValueError, match=r'folders below it: it has other files \(1: x.heic\); name a folder of'):
        shown(str(tmp_path / 'empty'))
    (tmp_path / 'empty' / 'x.tar').touch()
    with pytest.raises(ValueError, match=r'of its tar files, name one as root, or read all as shards'):
        shown(str(tmp_path / 'empty'))
    with pytest.raises(ValueError, match=r'images and no class folders; .*without labels \(dataset.labels=False\)'):
        Views(str(photos / 'a' / 'b'))
    with pytest.raises(ValueError, match=r"1.jpg' is a file and no .tar; give a folder, a tar file, or a list"):
        shown(str(photos / '1.jpg'))
    both = [dict(root=str(photos)), dict(root=str(photos / 'c'), weight=1)]
    for sources, message in (
        (both, r"photos' has no weight and another has one"),
        ([dict(root=str(photos), weight=0)], 'weight of a source is 0 .*; give a number above 0'),
        ([dict(root=str(photos), wait=1)], "a source of images has no 'wait'; choose from root, split, name, weight"),
        ([], r'sources is \[\]; give a list of dict'),
    ):
        with pytest.raises(ValueError, match=message):
            Views(sources=sources, labels=False)
    with pytest.raises(ValueError, match=r'several sets without labels; set dataset.labels=False'):
        Views(sources=both)
    with pytest.raises(ValueError, match='is given beside sources'):
        Views(str(photos), sources=both, labels=False)


def test_broken_images_are_counted_and_left_out(photos, capfd):
    (photos / 'a' / '3.webp').write_bytes((photos / 'a' / '3.webp').read_bytes()[:30])
    with pytest.raises(ValueError, match=r'3.webp. cannot be decoded'):
        shown(str(photos))
    views = shown(str(photos), on_broken='skip', max_broken=1)
    assert views.reader.filename(2) == 'a/3.webp'
    assert (views[2][0] == views[3][0]).all()
    assert ''.join(capfd.readouterr()).count('skipped (1 of at most 1): image') == 1


def test_views_are_those_of_the_same_images_with_labels(shapes):
    """Seeds, repeats and batches: what is random about a view does not know of labels."""
    with_labels = Views(str(shapes), 'train', transform=TRANSFORM, seed=3)
    without = Views(str(shapes), 'train', transform=TRANSFORM, seed=3, labels=False)
    assert with_labels.reader.filenames() == without.reader.filenames()
    samplers = [ViewSampler(views, seed=1, repeats=3) for views in (with_labels, without)]
    keys = [list(sampler) for sampler in samplers]
    assert keys[0] == keys[1]
    batches = [next(iter(DataLoader(v, batch_sampler=[keys[0][:12]]))) for v in (with_labels, without)]
    for place in (0, 2, 3, 4):
        assert torch.equal(batches[0][place], batches[1][place])
    assert (batches[1][1] == -1).all()
    held = [MemoryViews(str(shapes), 'train', transform=TRANSFORM, labels=labels) for labels in (True, False)]
    assert torch.equal(held[0][5, 2][0], held[1][5, 2][0])
    # Mixing mixes the images alike, and makes no labels.
    mixup = dict(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=10)
    for mode in ('pair', 'batch'):
        mixed = []
        for batch in batches:
            np.random.seed(0)
            mixed.append(ViewPreprocessor(random_erasing=0.5, mixup=dict(mixup, mode=mode))(batch, True))
        assert torch.equal(mixed[0]['images'], mixed[1]['images'])
        assert torch.equal(mixed[1]['targets'], batches[1][1])


@pytest.mark.parametrize(
    ('sources', 'repeats'),
    [([(10, 1), (40, 1)], 1), ([(7, 3), (100, 1), (20, 0.5)], 1), ([(300, 1), (31, 1)], 3), ([(2, 1)] * 5, 2)],
)
def test_weighted_keys_are_unique_and_found_again(sources, repeats):
    plan = WeightedPlan([Source(*one) for one in sources], repeats, seed=5)
    rows = np.arange(4 * plan.rows_per_epoch)
    keys = plan.keys(rows)
    assert len({*map(tuple, keys.tolist())}) == len(rows)
    shuffled = np.random.default_rng(0).permutation(rows)
    np.testing.assert_array_equal(plan.rows(keys[shuffled]), shuffled)
    # Partners are of one source and have one view, as mixing wants it.
    ends = np.cumsum([images for images, _ in sources])
    of = np.searchsorted(ends, keys[:, 0], side='right')
    np.testing.assert_array_equal(of[::2], of[1::2])
    np.testing.assert_array_equal(keys[::2, 1], keys[1::2, 1])
    with pytest.raises(ValueError, match='is not drawn in view'):
        WeightedPlan([Source(3, 1), Source(4, 1)]).rows(np.array([(image, 0) for image in range(3)]))


def test_weights_are_shares_of_every_epoch(photos):
    """Two images with weight 3 and six with weight 1, and every image of a source as often as another."""
    sources = [dict(root=str(photos / 'a' / 'b'), weight=3), dict(root=str(photos), weight=1)]
    views = Views(sources=sources, labels=False, transform=TRANSFORM, seed=2)
    assert len(views) == 10
    assert views.reader.filename(0, absolute=True) == f'{photos}/a/b/4.bmp'
    sampler = ViewSampler(views, seed=0)
    counts: collections.Counter = collections.Counter()
    seen = set()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(sampler) == 10
        assert sum(image < 2 for image, _ in keys) == 8  # 3/4 of 5 pairs, rounded to 4.
        counts.update(image for image, _ in keys)
        seen |= {*keys}
    assert len(seen) == 200
    assert {counts[image] for image in (0, 1)} == {80}
    assert {counts[image] for image in range(2, 10)} == {5}
    again = ViewSampler(Views(sources=sources, labels=False, transform=TRANSFORM, seed=2), seed=0)
    again.set_epoch(19)
    assert list(again) == keys
    # In memory too, and without weights each set counts by its images.
    held = MemoryViews(sources=sources, labels=False, transform=TRANSFORM, seed=2)
    assert [held[key][2:4] for key in keys[:3]] == keys[:3]
    plain = Views(sources=[dict(root=one['root']) for one in sources], labels=False, transform=TRANSFORM)
    assert sorted(ViewSampler(plain)) == [(image, 0) for image in range(10)]
    assert list_sha256(plain.reader) == list_sha256(views.reader)
    with pytest.raises(ValueError, match=r'weights are drawn, not shown in order; set sampler.shuffle=True'):
        ViewSampler(views, shuffle=False)


def test_the_manifest_of_a_cache_knows_the_weights(photos):
    sources = [dict(root=str(photos / 'a'), weight=3), dict(root=str(photos), weight=1)]
    views = Views(sources=sources, labels=False, transform=TRANSFORM, seed=2)
    sampler = ViewSampler(views, seed=0)
    run = describe_run(views, sampler, ViewPreprocessor())
    written = json.loads(json.dumps(asdict(run.views)))
    layout = Layout(views=4, num_classes=2, topk=2, dtype='float32')
    manifest = Manifest(layout, {}, replace(run, views=ViewSettings(**written)))
    rows = np.arange(4 * sampler.plan.rows_per_epoch)
    assert manifest.plan.rows_per_epoch == sampler.plan.rows_per_epoch
    np.testing.assert_array_equal(manifest.plan.keys(rows), sampler.plan.keys(rows))
    other = Views(sources=[dict(sources[0], weight=2), sources[1]], labels=False, transform=TRANSFORM, seed=2)
    with pytest.raises(ValueError, match=r'does not fit: views\.sources'):
        require_equal(run, describe_run(other, ViewSampler(other, seed=0), ViewPreprocessor()), photos)
