"""COCO files as people write them: mended with a line where that is harmless, else refused in one line."""

import gzip
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pycocotools.mask
import pytest
from mmdet.datasets import CocoDataset
from mmdet.evaluation.metrics import CocoMetric
from mmengine.evaluator import Evaluator
from mmengine.fileio import dump
from mmengine.logging import MMLogger
from PIL import Image

from backbones.openmmlab.fast_coco import COCOeval_faster, FastCocoMetric
from distill.downstream.annotations import register
from distill.downstream.annotations.masks import mask_area, mask_box
from distill.downstream.checks.evaluator import check_evaluator

CLASSES = ('apple', 'brick', 'coin')
BOXES = [[10, 10, 20, 30], [40, 20, 30, 20], [60, 50, 25, 25], [5, 60, 40, 30]]
METRICS = [CocoMetric] if COCOeval_faster is None else [CocoMetric, FastCocoMetric]


def polygon(box: list) -> list:
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def plain() -> dict:
    """Two images of 128 × 96 pixels with two objects each, of the classes apple, brick, coin and apple."""
    return {
        'images': [dict(id=k, file_name=f'{k}.png', width=128, height=96) for k in (1, 2)],
        'annotations': [
            dict(id=k, image_id=1 + (k > 2), category_id=(k - 1) % 3 + 1, bbox=list(box), iscrowd=0)
            | dict(area=box[2] * box[3], segmentation=polygon(box))
            for k, box in enumerate(BOXES, 1)
        ],
        'categories': [dict(id=k, name=name) for k, name in enumerate(CLASSES, 1)],
    }


def each(section: str, **changes):
    """A change of every entry of a section: a value, a function of the entry, or ... to leave the key out."""

    def change(content: dict) -> None:
        for entry in content[section]:
            for key, value in changes.items():
                if value is ...:
                    entry.pop(key)
                else:
                    entry[key] = value(entry) if callable(value) else value

    return change


def entry(section: str, place: int, **changes):
    """A change of one entry of a section, as `each`."""

    def change(content: dict) -> None:
        each('only', **changes)({'only': [content[section][place]]})

    return change


def together(*changes):
    return lambda content: [change(content) for change in changes] and None


def add(section: str, **more):
    return lambda content: content[section].append({**content[section][0], **more})


def write(folder: Path, change=None, name: str = 'a.json') -> Path:
    content = plain()
    if change:
        change(content)
    path = folder / name
    path.write_text(json.dumps(content))
    for k in (1, 2):
        Image.new('RGB', (128, 96)).save(folder / f'{k}.png')
    return path


def read(path: Path, masks: bool = False, classes=CLASSES, **options) -> CocoDataset:
    pipeline = [dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=masks)]
    options = dict(filter_cfg=dict(filter_empty_gt=True), **options)
    return CocoDataset(
        ann_file=str(path), data_prefix=dict(img=str(path.parent)), metainfo=dict(classes=classes), pipeline=pipeline,
        **options,
    )  # fmt: skip


def objects(dataset: CocoDataset) -> list[tuple]:
    return [
        (classes_of(dataset)[found['bbox_label']], *map(float, found['bbox']))
        for index in range(len(dataset))
        for found in dataset.get_data_info(index)['instances']
    ]


def classes_of(dataset: CocoDataset) -> tuple:
    return dataset.metainfo['classes']


def score(path: Path, dataset: CocoDataset, metric: type = CocoMetric, **options) -> dict:
    """Score detections that are the objects of a data set, of which the coin's box is not quite right."""
    metric = metric(ann_file=str(path), **options)
    metric.dataset_meta = dataset.metainfo
    check_evaluator(SimpleNamespace(metrics=[metric]), [dataset], 'validation')
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        labels = np.array([found['bbox_label'] for found in info['instances']])
        boxes = np.array([found['bbox'] for found in info['instances']], float)
        boxes[labels == classes_of(dataset).index('coin')] += 2
        gt = dict(width=128, height=96, img_id=info['img_id'])
        found = dict(img_id=info['img_id'], bboxes=boxes, labels=labels, scores=np.linspace(0.9, 0.8, len(labels)))
        metric.results.append((gt, found))
    return dict(metric.compute_metrics(metric.results))


@pytest.fixture
def lines() -> list[str]:
    """The warnings of mmengine's log."""
    found: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: found.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


MENDED = {
    'area': each('annotations', area=...),
    'area 0': each('annotations', area=0),
    'iscrowd': each('annotations', iscrowd=...),
    'bbox': each('annotations', bbox=...),
    'sizes': each('images', width=..., height=None),
    'polygons': each('annotations', segmentation=lambda found: [*found['segmentation'], [1, 2, 3, 4]]),
    'flat polygons': each('annotations', segmentation=lambda found: found['segmentation'][0]),
    'annotation id 0': each('annotations', id=lambda found: found['id'] - 1),
    'annotation ids twice': each('annotations', id=7),
    'annotation ids of text': each('annotations', id=lambda found: f'a{found["id"]}'),
    'category ids of text': together(
        each('categories', id=lambda found: str(found['id'])),
        each('annotations', category_id=lambda found: str(found['category_id'])),
    ),
    'image ids of two types': each('annotations', image_id=lambda found: str(found['image_id'])),
    'category ids of names': together(
        each('categories', id=lambda found: found['name']),
        each('annotations', category_id=lambda found: CLASSES[found['category_id'] - 1]),
    ),
    'image ids with a point': each('images', id=lambda found: float(found['id'])),
    "Roboflow's category": lambda content: content['categories'].insert(0, dict(id=0, name='brick')),
    'an image twice': add('images'),
    'other order': lambda content: content['categories'].reverse(),
}


@pytest.mark.parametrize('change', MENDED.values(), ids=MENDED)
def test_a_mended_file_is_read_and_scored_as_an_intact_one_and_one_line_says_so(change, tmp_path, lines):
    """The label of a class is its place in metainfo.classes; all scores are those of the intact file."""
    intact = write(tmp_path)
    dataset = read(intact, masks=True)
    assert lines == []
    path = write(tmp_path, change, 'b.json')
    mended = read(path, masks=True)
    assert [line.startswith(f"annotations '{path}'") for line in lines] == [True]
    assert objects(mended) == objects(dataset)
    for metric in METRICS:
        expected = score(intact, dataset, metric, classwise=True)
        assert expected['coin_precision'] < expected['apple_precision'] == 1
        assert score(path, mended, metric, classwise=True) == expected


def test_labels_and_scores_of_classes_follow_metainfo_whatever_its_order(tmp_path):
    path = write(tmp_path)
    expected = score(path, read(path), classwise=True)
    other = read(path, classes=('coin', 'apple', 'brick'))
    assert objects(other) == objects(read(path))
    assert [found['bbox_label'] for found in other.get_data_info(1)['instances']] == [0, 1]
    for metric in METRICS:
        assert score(path, other, metric, classwise=True) == expected


def test_an_intact_file_is_read_as_mmdet_reads_it(tmp_path, lines):
    content = plain()
    path = write(tmp_path)
    read(path)
    reader = CocoDataset.COCOAPI(str(path))
    assert {key: reader.dataset[key] for key in content} == content
    assert lines == []


def test_detections_are_written_as_mmengine_writes_them(tmp_path):
    detections = [
        {
            'image_id': 3,
            'bbox': [0.1, 1e-7, 123.45678, 1e20],
            'score': float(np.float32(0.3)),
            'category_id': np.int64(2),
        },
        {'image_id': 'é', 'segmentation': {'size': [4, 5], 'counts': 'a\\"b'}, 'score': 1.0},
    ]
    dump(detections, tmp_path / 'mmengine.json')
    register.write_at_once(detections, str(tmp_path / 'at_once.json'))
    assert (tmp_path / 'at_once.json').read_bytes() == (tmp_path / 'mmengine.json').read_bytes()


def test_images_may_be_numbered_by_text(tmp_path):
    path = write(tmp_path)
    expected = score(path, read(path))
    names = each('images', id=lambda found: f'i{found["id"]}')
    path = write(tmp_path, together(names, each('annotations', image_id=lambda found: f'i{found["image_id"]}')))
    assert score(path, read(path)) == expected
    for metric in METRICS[1:]:
        with pytest.raises(ValueError, match="image ids that are numbers, not 'i1'; set type=CocoMetric"):
            metric(ann_file=str(path))


def test_training_on_some_of_the_classes_says_how_many_objects_are_left_out(tmp_path, lines):
    dataset = read(write(tmp_path), classes=('coin', 'brick'))
    assert [name for name, *_ in objects(dataset)] == ['brick', 'coin']
    assert '2 of 4 objects are left out' in lines[-1]
    assert lines[-1].endswith('apple')


REFUSED = {
    'orphan image': (entry('annotations', 2, image_id=9), r'annotations\[2\] \(id 3\) is on image_id 9'),
    'orphan category': (entry('annotations', 2, category_id=9), r'annotations\[2\] \(id 3\) has category_id 9'),
    'box of 3': (entry('annotations', 1, bbox=[1, 2, 3]), r'annotations\[1\] \(id 2\) has the bbox \[1, 2, 3\]'),
    'box of null': (entry('annotations', 1, bbox=None, segmentation=[]), 'has the bbox None'),
    'NaN': (entry('annotations', 1, bbox=[1, float('nan'), 3, 4]), r'has the bbox \[1, nan, 3, 4\]'),
    'width below 0': (entry('annotations', 1, bbox=[9, 9, -3, 4]), r'has the bbox \[9, 9, -3, 4\]'),
    'corners': (each('annotations', bbox=[90, 50, 120, 90]), r"4 of 4 boxes .*COCO's boxes are x, y, width, height"),
    'fractions': (each('annotations', bbox=[0.1, 0.1, 0.3, 0.2]), 'not fractions of the image'),
    'crowd': (entry('annotations', 0, iscrowd='no'), "has iscrowd 'no'"),
    'no mask': (entry('annotations', 3, segmentation=[]), r'annotations\[3\] \(id 4\) has no segmentation'),
    'no polygon': (entry('annotations', 3, segmentation=[[1, 2, 3, 4]]), 'no polygon of 3 points'),
    'one id, two images': (entry('images', 1, id=1), r"images\[1\] \(id 1\) .*'1.png' and '2.png'"),
    'one file, two images': (entry('images', 1, file_name='1.png'), r"images\[1\] \(id 2\) is the file '1.png' again"),
    'category ids of two kinds': (
        together(each('categories', id=lambda found: found['name']), each('annotations', category_id=1)),
        'has category_id 1, which none of the categories has',
    ),
    'file name': (entry('images', 1, file_name=[1]), r'has the file_name \[1\]'),
    'image without id': (entry('images', 1, id=...), r'images\[1\] has no id'),
    'size below 0': (entry('images', 1, width=-1), 'has the width -1'),
    'no images': (lambda content: content.pop('images') and None, 'have no list images'),
    'no categories': (lambda content: content.pop('categories') and None, 'have no list categories'),
    'one name, two classes': (
        together(add('categories', id=4), entry('annotations', 3, category_id=4)),
        "has the name of another, 'apple'",
    ),
    'near name': (entry('categories', 0, name='Apple '), "lack the class 'apple' .* perhaps 'Apple '"),
    'no class': (
        lambda content: content['categories'].pop() and entry('annotations', 2, category_id=1)(content),
        'coin',
    ),
}


@pytest.mark.parametrize(('change', 'message'), REFUSED.values(), ids=REFUSED)
def test_what_needs_a_guess_is_one_line_with_file_entry_and_value(change, message, tmp_path):
    path = write(tmp_path, change)
    with pytest.raises(ValueError, match=f"annotations '{path}'.*{message}") as error:
        read(path, masks='mask' in message or 'polygon' in message or 'segm' in message)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('encode', 'message'),
    [
        (lambda text: b'\xef\xbb\xbf' + text.encode(), None),
        (lambda text: text.encode('utf-16'), None),
        (lambda text: gzip.compress(text.encode()), 'gzip'),
        (lambda text: b' ', 'are empty'),
        (lambda text: f'[{text}]'.encode(), 'hold a list'),
        (lambda text: text.encode()[:-3], 'no whole JSON file'),
    ],
)
def test_a_file_is_read_in_any_unicode_and_named_if_it_is_no_coco_file(encode, message, tmp_path):
    path = write(tmp_path)
    path.write_bytes(encode(path.read_text()))
    if message is None:
        assert len(read(path)) == 2
    else:
        with pytest.raises(ValueError, match=f"annotations '{path}'.*{message}"):
            read(path)


def test_area_and_box_of_a_mask_are_those_of_pycocotools():
    drawn = np.zeros((96, 128), np.uint8, order='F')
    drawn[20:40, 40:70] = 1
    compressed = pycocotools.mask.encode(drawn)
    text = dict(size=[96, 128], counts=compressed['counts'].decode())
    for mask in (text, polygon(BOXES[1])):
        assert mask_area(mask) == 600
        assert mask_box(mask) == BOXES[1]


def test_an_evaluator_scores_the_images_of_the_data_set_or_is_refused(tmp_path, lines):
    path = write(tmp_path)
    dataset = read(path)
    expected = score(path, dataset)

    larger = together(add('images', id=3, file_name='3.png'), add('annotations', id=5, image_id=3))
    assert score(write(tmp_path, larger, 'larger.json'), dataset) == expected
    assert 'scoring the 2 images' in lines[-1]

    def renumber(content: dict) -> None:
        each('images', id=lambda found: found['id'] + 1000)(content)
        each('annotations', image_id=lambda found: found['image_id'] + 1000)(content)

    swap = each('images', file_name=lambda found: f'{3 - found["id"]}.png')
    empty = each('annotations', iscrowd=1)
    rename = entry('categories', 1, name='Brick')
    for change, message in (
        (renumber, 'lack 2 of the 2 images'),
        (swap, "have '2.png' under the id 1"),
        (empty, 'no object of apple, brick, coin'),
        (rename, "lack the class 'brick'"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            score(write(tmp_path, change, 'other.json'), dataset)
        assert "other.json'" in str(error.value)


def test_an_evaluator_of_masks_needs_a_mask_of_every_object_and_learns_sizes_from_the_data(tmp_path):
    change = together(each('images', width=..., height=...))
    path = write(tmp_path, change)
    metric = CocoMetric(ann_file=str(path), metric='segm')
    check_evaluator(Evaluator([metric]), [read(path)], 'test')
    assert metric._coco_api.imgs[1]['height'] == 96
    path = write(tmp_path, entry('annotations', 3, segmentation=[]), 'b.json')
    metric = CocoMetric(ann_file=str(path), metric='segm')
    with pytest.raises(ValueError, match='1 objects without a mask, the first is annotation 4'):
        check_evaluator(Evaluator([metric]), [read(path)], 'test')


def test_classes_without_an_object_are_named_since_the_mean_leaves_them_out(tmp_path, lines):
    path = write(tmp_path, entry('annotations', 2, category_id=1))
    assert score(path, read(path), classwise=True)['bbox_mAP'] == 1
    assert 'no object of 1 of the 3 classes (coin)' in lines[-1]


def test_images_that_lie_on_their_side_have_the_size_that_they_are_loaded_with(tmp_path):
    path = write(tmp_path, each('images', width=..., height=...))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (96, 128)).save(tmp_path / '1.png', exif=exif)
    sizes = [(info['width'], info['height']) for info in map(read(path).get_data_info, range(2))]
    assert sizes == [(128, 96), (128, 96)]
