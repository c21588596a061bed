"""The embedded data: reproducible, laid out as the real sets are, and in agreement with its annotations."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.cli.data import main
from distill.synthetic.ade20k import write_ade20k
from distill.synthetic.coco import mask_to_polygons, render_scene, write_coco
from distill.synthetic.imagenet_like import SHIFTED, SPLITS, SUBSETS, draw_classes, render_image, write_imagenet_like
from distill.synthetic.sets import image_rng
from distill.synthetic.shapes import CLASSES, outline
from distill.synthetic.textures import TEXTURES, random_texture

SMALL = {'size': 32, 'train': 40, 'val': 20, 'shifted': 20}


def digests(root: Path) -> dict[str, str]:
    """Hashes of all files below a folder."""
    files = (path for path in sorted(root.rglob('*')) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'imagenet'
    write_imagenet_like(root, **SMALL)
    return root


@pytest.fixture(scope='module')
def scenes(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('scenes')
    write_coco(root / 'coco', size=96, train=20, val=5)
    write_ade20k(root / 'ade20k', size=96, train=20, val=5)
    return root


def test_names_are_in_folder_order():
    assert list(CLASSES) == sorted(CLASSES)
    assert len(set(CLASSES)) == len(set(TEXTURES)) == 10
    for name in CLASSES:
        assert np.hypot(*outline(name).T).max() == pytest.approx(1)


def test_same_bytes_for_any_number_of_workers(imagenet, scenes, tmp_path):
    write_imagenet_like(tmp_path / 'imagenet', **SMALL, workers=2)
    assert digests(tmp_path / 'imagenet') == digests(imagenet)
    write_coco(tmp_path / 'coco', size=96, train=20, val=5)
    assert digests(tmp_path / 'coco') == digests(scenes / 'coco')


def test_an_image_depends_on_seed_split_and_index_only(imagenet, tmp_path):
    write_imagenet_like(tmp_path / 'more', **(SMALL | {'train': 60, 'shifted': 0}))
    more = digests(tmp_path / 'more')
    train = {name: digest for name, digest in digests(imagenet).items() if name.startswith('train/')}
    assert len(train) == 40
    assert train.items() <= more.items()
    pictures = [render_image(seed, split, i)[0].tobytes() for seed in (0, 1) for split in SPLITS for i in (0, 70)]
    assert len(set(pictures)) == len(pictures)


def test_imagenet_layout(imagenet):
    expected = {'train': 40, 'val': 20} | dict.fromkeys(SHIFTED, 20)
    assert json.loads((imagenet / 'data.json').read_text())['images'] == expected
    for split, count in expected.items():
        folders = {folder.name: len(list(folder.glob('*.jpg'))) for folder in (imagenet / split).iterdir()}
        assert set(folders) == set(SUBSETS.get(split, CLASSES))
        assert sum(folders.values()) == count
        assert max(folders.values()) - min(folders.values()) <= 1
    assert (len(SUBSETS['rendition']), len(SUBSETS['adversarial'])) == (7, 6)
    with Image.open(imagenet / 'val' / 'star' / 'star_00001.jpg') as image:
        assert (image.size, image.mode, image.format) == ((32, 32), 'RGB', 'JPEG')


@pytest.mark.parametrize(('agreement', 'low', 'high'), [(0.9, 0.87, 0.93), (0.1, 0.07, 0.13), (1.0, 1.0, 1.0)])
def test_texture_agreement(agreement, low, high):
    drawn = [draw_classes(image_rng(0, 'imagenet-train', i), 'train', i, agreement) for i in range(1000)]
    assert [render_image(0, 'train', i, 32, agreement)[1:] for i in range(50)] == drawn[:50]
    assert low <= np.mean([label == texture for label, texture in drawn]) <= high
    if agreement == 0.1:  # The other nine are drawn evenly: chi-squared of 89 cells, 99.9 % quantile 135.
        table = np.zeros((10, 10))
        np.add.at(table, tuple(np.transpose(drawn)), 1)
        assert ((table - 10) ** 2 / 10).sum() < 140


def test_stylized_names_a_shape_and_another_texture(imagenet):
    pairs = set()
    for path in (imagenet / 'stylized').rglob('*.jpg'):
        shape, texture = re.fullmatch(r'([a-z]+)\d+-([a-z]+)\d+\.jpg', path.name).groups()
        assert shape == path.parent.name != texture
        assert texture in CLASSES
        pairs.add((shape, texture))
    assert len(pairs) == 20
    assert len({render_image(0, 'stylized', i)[1:] for i in range(90)}) == 90


@pytest.mark.parametrize('family', TEXTURES)
def test_textures_use_both_colours_at_any_size(family):
    for size in (32, 57, 224):
        pattern = random_texture(np.random.default_rng(3), family, size, size)
        assert pattern.shape == (size, size)
        assert pattern.min() >= 0
        assert pattern.max() <= 1
        assert pattern.std() > 0.2


def test_sketches_are_dark_lines_on_white_paper(imagenet):
    for path in (imagenet / 'sketch').rglob('*.jpg'):
        with Image.open(path) as image:
            pixels = np.asarray(image).astype(int)
        assert np.median(pixels) > 230
        assert pixels.min() < 120
        assert np.ptp(pixels, axis=2).max() < 12  # no colours


def test_polygons_of_a_hand_made_mask():
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:3, 1:4] = True  # A 3 × 2 box and, touching it at one corner only, a single pixel.
    mask[3, 4] = True
    found = {tuple(sorted(map(tuple, polygon.tolist()))) for polygon in mask_to_polygons(mask)}
    box, pixel = ((1, 1), (1, 3), (4, 1), (4, 3)), ((4, 3), (4, 4), (5, 3), (5, 4))
    assert found == {box, pixel}


def test_coco_annotations_match_the_label_maps(scenes):
    coco_api = pytest.importorskip('pycocotools.coco')
    for split, folder, count in (('train', 'training', 20), ('val', 'validation', 5)):
        coco = coco_api.COCO(scenes / 'coco' / 'annotations' / f'instances_{split}2017.json')
        assert len(coco.imgs) == count
        assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
        for image_id, info in coco.imgs.items():
            name = f'ADE_{split}_{image_id:08d}'
            ade_image = scenes / 'ade20k' / 'images' / folder / f'{name}.jpg'
            assert info['file_name'] == f'{image_id:012d}.jpg'
            assert (scenes / 'coco' / f'{split}2017' / info['file_name']).read_bytes() == ade_image.read_bytes()
            label_map = np.asarray(Image.open(scenes / 'ade20k' / 'annotations' / folder / f'{name}.png'))
            assert label_map.dtype == np.uint8
            painted = np.zeros_like(label_map)
            annotations = coco.imgToAnns[image_id]
            assert 1 <= len(annotations) <= 6
            for annotation in annotations:
                mask = coco.annToMask(annotation).astype(bool)
                rows, columns = np.nonzero(mask)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                assert annotation['bbox'] == box
                assert annotation['area'] == mask.sum() > 10
                assert not painted[mask].any()  # visible regions do not overlap
                painted[mask] = annotation['category_id']
            np.testing.assert_array_equal(painted, label_map)


def test_scenes_show_every_number_of_shapes_and_real_overlap():
    scenes = [render_scene(0, 'train', i, 64) for i in range(60)]
    assert {len(scene.labels) for scene in scenes} == {1, 2, 3, 4, 5, 6}
    assert {label for scene in scenes for label in scene.labels} == set(range(10))
    smallest = render_scene(0, 'train', 0, 32)
    assert smallest.image.size == (32, 32)
    assert smallest.label_map().max() <= 10


def test_an_existing_set_is_kept(imagenet, tmp_path, capsys):
    before = digests(imagenet)
    assert write_imagenet_like(imagenet, **SMALL)['written'] is False
    with pytest.raises(ValueError, match=r'seed 0 there, 1 asked.*overwrite'):
        write_imagenet_like(imagenet, **SMALL, seed=1)
    arguments = ['--sets', 'imagenet', '--train', '40', '--val', '20', '--shifted', '30']
    assert main([str(imagenet.parent), *arguments]) == 1
    assert 'shifted 20 there, 30 asked' in capsys.readouterr().err
    assert digests(imagenet) == before
    assert [path.name for path in imagenet.parent.iterdir()] == ['imagenet']  # no half-written folder is left

    foreign = tmp_path / 'coco'
    foreign.mkdir()
    (foreign / 'precious.txt').write_text('kept')
    with pytest.raises(ValueError, match='not made by this generator'):
        write_coco(foreign, overwrite=True)
    assert [path.name for path in foreign.iterdir()] == ['precious.txt']


def test_overwrite_and_a_damaged_set(tmp_path):
    root = tmp_path / 'imagenet'
    write_imagenet_like(root, **SMALL)
    before = digests(root)
    (root / 'val' / 'star' / 'star_00002.jpg').unlink()
    with pytest.raises(ValueError, match='139 of 140 images there'):
        write_imagenet_like(root, **SMALL)
    write_imagenet_like(root, **SMALL, overwrite=True)
    assert digests(root) == before
    write_imagenet_like(root, **SMALL, seed=1, overwrite=True)
    assert not set(before.values()) & set(digests(root).values())
    assert [path.name for path in tmp_path.iterdir()] == ['imagenet']


def test_failure_leaves_nothing_behind(tmp_path):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_imagenet_like(tmp_path / 'imagenet', **SMALL, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--size', '16'], 'size 16 is too small; choose 32'),
        (['--train', '-1'], 'train -1 is negative'),
        (['--val', '5'], 'val 5 leaves classes empty; give 10'),
        (['--texture-agreement', '1.5'], 'texture agreement 1.5 .* choose 0 to 1'),
        (['--workers', '0'], 'workers 0 is too few'),
        (['--sets', 'imagnet'], "set 'imagnet' is unknown; choose from imagenet, coco, ade20k"),
        (['--sets', 'coco', '--scene-size', '31'], 'size 31 is too small'),
    ],
)
def test_wrong_arguments_are_named(arguments, message, tmp_path, capsys):
    assert main([str(tmp_path), *arguments]) == 1
    error = capsys.readouterr().err.strip()
    assert re.search(message, error)
    assert '\n' not in error
    assert list(tmp_path.iterdir()) == []


def test_command_writes_all_sets(tmp_path, capsys):
    counts = ['--train', '10', '--val', '10', '--shifted', '10', '--scenes-train', '2', '--scenes-val', '1']
    sheet = tmp_path / 'sheet.png'
    assert main(['shapes', str(tmp_path / 'data'), *counts, '--scene-size', '64', '--contact-sheet', str(sheet)]) == 0
    assert main(['shape', str(tmp_path / 'other'), *counts]) == 1
    assert {path.name for path in (tmp_path / 'data').iterdir()} == {'imagenet', 'coco', 'ade20k'}
    assert 'adversarial' in capsys.readouterr().out
    assert Image.open(sheet).size[0] == 20 * 96
