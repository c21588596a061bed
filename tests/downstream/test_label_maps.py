"""What a label map holds is what a segmenter learns: nothing is cut off, left out or taken for something else."""

import pickle
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from distill.downstream.checks.files import check_files
from distill.downstream.checks.labels import LabelCensus, check_label_file
from distill.downstream.checks.norm import one_value_message, smallest_batch, watch_norms
from distill.downstream.checks.sample import CheckSample, check_samples, check_whole, name_label_maps
from distill.downstream.scores import task_scores

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)
WHOLE = 'labels are whole numbers from 0 to 255; save class indices'


def palette(labels: np.ndarray) -> Image.Image:
    image = Image.frombytes('P', labels.shape[::-1], labels.tobytes())
    image.putpalette([5, 6, 7] * 256)
    return image


@pytest.mark.parametrize(
    ('stored', 'suffix', 'message'),
    [
        (LABELS, '.png', None),
        (palette(LABELS), '.png', None),
        (LABELS > 3, '.png', None),
        (LABELS.astype(np.uint16), '.png', None),
        (LABELS.astype(np.float32), '.tif', None),
        (LABELS.astype(np.uint16) * 257, '.png', f'values 257, 514, 771, 1028, 1285, … .11 pixels., and {WHOLE}'),
        (LABELS.astype(np.int32) * 1000, '.tif', WHOLE),
        (LABELS.astype(np.int32) - 2, '.tif', 'values -2 '),
        (LABELS.astype(np.float32) / 255, '.tif', WHOLE),
        (np.full((3, 4), np.nan, np.float32), '.tif', WHOLE),
        (LABELS, '.jpg', 'is a JPEG, whose compression changes labels'),
    ],
)
def test_label_maps_that_keep_their_values_pass_and_others_are_one_line(stored, suffix, message, tmp_path):
    path = str(tmp_path / f'labels{suffix}')
    (stored if isinstance(stored, Image.Image) else Image.fromarray(stored)).save(path)
    if message is None:
        check_label_file(path)
    else:
        with pytest.raises(ValueError, match=rf"^label map '{path}' .*{message}"):
            check_label_file(path)


@pytest.mark.parametrize('none', [65535, -1])
def test_all_bits_set_stand_for_none_and_it_is_said(none, tmp_path):
    deep = LABELS.astype(np.int64)
    deep[0] = none
    Image.fromarray(deep.astype(np.uint16 if none > 0 else np.int32)).save(tmp_path / 'labels.tif')
    with pytest.warns(UserWarning, match='65535 or -1 where they have no label; it is read as 255'):
        check_label_file(str(tmp_path / 'labels.tif'))


def test_gray_levels_of_4_bits_are_refused(tmp_path):
    """Pillow and OpenCV read 0, 1, 2 as 0, 17, 34."""
    path = tmp_path / 'labels.png'
    image = palette(LABELS)
    image.save(path, bits=4)
    check_label_file(str(path))
    content = bytearray(path.read_bytes())
    content[25] = 0  # The colour type: gray levels in place of a palette. Pillow does not check this chunk's sum here.
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, 'big')
    path.write_bytes(content)
    assert set(np.unique(np.asarray(Image.open(path)))) >= {0, 17, 34}
    with pytest.raises(ValueError, match='less than 8 bits a pixel'):
        check_label_file(str(path))


@pytest.mark.parametrize(
    ('colours', 'message'),
    [(np.eye(4, 3, dtype=np.uint8) * 200, 'is coded by 4 colours'), (np.ones((4, 4), np.uint8), 'has the same values')],
)
def test_colour_coded_label_maps_are_refused(colours, message, tmp_path):
    path = str(tmp_path / 'labels.png')
    Image.fromarray(colours[LABELS % 4]).save(path)
    results = dict(ori_shape=(3, 4), img_path=None, seg_map_path=path, gt_seg_map=np.asarray(Image.open(path)))
    with pytest.raises(ValueError, match=rf"^label map '{path}' {message}.*; save class indices 0, 1, 2, … in one"):
        CheckSample(num_classes=4).transform(results)


def test_label_maps_that_cannot_be_loaded_are_named_in_workers_too(tmp_path):
    path = tmp_path / 'labels.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (64, 64), dtype=np.uint8)).save(path)
    pipeline = SimpleNamespace(transforms=[LoadAnnotations(reduce_zero_label=True)])
    name_label_maps(pipeline)
    name_label_maps(pipeline)
    load = pickle.loads(pickle.dumps(pipeline.transforms[0]))
    assert isinstance(load.step, LoadAnnotations)
    info = dict(seg_map_path=str(path), reduce_zero_label=True, seg_fields=[])
    assert load(dict(info))['gt_seg_map'].shape == (64, 64)
    with pytest.raises(
        ValueError, match='the data set has reduce_zero_label=False and LoadAnnotations in its pipeline'
    ):
        load({**info, 'reduce_zero_label': False})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=rf"^label map '{path}' cannot be decoded .*; replace or delete it"):
        load(dict(info))


def census(*values: int, files: tuple[int, ...] = (), folder=None, **settings) -> LabelCensus:
    """A census of two maps with some values after loading, whose files hold others."""
    found = LabelCensus(**{'classes': ('background', 'thing'), 'num_classes': 2, **settings})
    for name in ('a.png', 'b.png'):
        Image.fromarray(np.array([files or values], np.uint8)).save(folder / name)
        found.add(np.array([values], np.uint8), str(folder / name))
    return found


FEW = [
    (
        {},
        (0, 255),
        (),
        "hold the values 0, 255, of which loading leaves label 0 .'background'. alone; 255 stands for none",
    ),
    (dict(part='validation'), (0, 255), (), 'save class indices 0 to 1, 1 in place of 255'),
    (dict(reduce_zero_label=True), (255, 0), (0, 1), 'reduce_zero_label=True turns 0 into none: set it to False'),
    (dict(part='test'), (255, 255), (), 'leaves no label'),
    ({}, (1, 1), (), "leaves label 1 .'thing'. alone; give maps of the 2 classes"),
    (
        dict(reduce_zero_label=True, classes=('background', 'a', 'b'), num_classes=3),
        (255, 0, 1),
        (0, 1, 2),
        "first class of the training set is 'background'.*no label map has 'b'",
    ),
]


@pytest.mark.parametrize(('settings', 'loaded', 'files', 'message'), FEW)
def test_a_set_with_nothing_to_tell_apart_is_an_error(settings, loaded, files, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        census(*loaded, files=files, folder=tmp_path, **settings).check()


def test_sets_with_rare_classes_and_small_validation_sets_are_no_error(tmp_path):
    assert census(0, 1, 255, folder=tmp_path).check() == []
    assert census(0, folder=tmp_path, classes=('thing',), num_classes=1).check() == []
    # Of a large set some were read, in which the second class may be rare.
    assert 'alone' in census(0, folder=tmp_path, complete=False).check()[0]
    assert 'alone' in census(0, folder=tmp_path, part='validation').check()[0]
    three = dict(classes=('a', 'b', 'c'), num_classes=3)
    line = census(0, 2, folder=tmp_path, part='validation', **three).check()[0]
    assert line.startswith('no label map of the validation set has b (1 of 3 classes): its IoU is 0 where it is found')
    assert census(0, 2, folder=tmp_path, complete=False, **three).check() == []
    line = census(0, 255, folder=tmp_path, classes=('thing',), num_classes=1).check()[0]
    assert "the one class 'thing' is learnt where they have 0" in line


def test_labels_of_a_large_set_are_looked_for_beyond_the_samples_that_are_loaded(monkeypatch):
    class Load:
        with_seg = True

        def __call__(self, results: dict) -> dict:
            label = 1 if results['number'] == 57 else 0
            return results | dict(gt_seg_map=np.full((2, 2), label, np.uint8))

    class Maps:
        pipeline = SimpleNamespace(transforms=[Load(), CheckSample(num_classes=2)])
        metainfo = dict(classes=('a', 'b'))

        def __len__(self) -> int:
            return 100

        def get_data_info(self, index: int) -> dict:
            return dict(number=index, ori_shape=(2, 2), img_path=None, seg_map_path='x.png')

    monkeypatch.setattr('distill.downstream.checks.sample.LOADED_BEFORE', 5)
    monkeypatch.setattr('distill.downstream.checks.sample.LOADING_S', -1)
    counted = LabelCensus()
    check_samples(Maps(), counted)
    assert (len(counted.paths), counted.complete, counted.labels) == (5, False, [0])
    clock = iter(range(1000))
    monkeypatch.setattr('distill.downstream.checks.sample.time.monotonic', lambda: next(clock))
    monkeypatch.setattr('distill.downstream.checks.sample.LOADING_S', 80)
    counted = LabelCensus()
    check_samples(Maps(), counted)
    assert counted.labels == [0, 1]


@pytest.fixture
def scenes(tmp_path):
    """Four images and their label maps."""
    for folder, suffix in (('img', '.jpg'), ('ann', '.png')):
        (tmp_path / folder).mkdir()
        for name in 'abcd':
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / folder / f'{name}{suffix}')
    return tmp_path


def dataset(root, **settings) -> BaseSegDataset:
    prefix = dict(img_path='img', seg_map_path='ann')
    return BaseSegDataset(data_root=str(root), data_prefix=prefix, metainfo=dict(classes=('a', 'b')), **settings)


@pytest.mark.parametrize('suffix', ['.JPG', '.jpeg', '.png'])
def test_images_that_end_otherwise_are_counted_and_refused(suffix, scenes):
    (scenes / 'img' / 'b.jpg').rename(scenes / 'img' / f'b{suffix}')
    message = (
        rf"end in \.jpg \(3\), \{suffix} \(1\), and img_suffix='\.jpg' leaves out 1 .*'b\{suffix}'.*give all one suffix"
    )
    with pytest.raises(ValueError, match=message):
        check_files(dataset(scenes))


def test_label_maps_that_end_otherwise_are_counted_and_refused(scenes):
    (scenes / 'ann' / 'b.png').rename(scenes / 'ann' / 'b.PNG')
    with pytest.raises(
        FileNotFoundError, match=r"b\.PNG' does: its folder has \.png \(3\), \.PNG \(1\); .*seg_map_suffix"
    ):
        check_files(dataset(scenes))


def test_files_that_belong_to_nothing_are_a_line_and_choices_are_none(scenes):
    (scenes / 'img' / 'preview.webp').touch()
    (scenes / 'img' / 'Thumbs.db').touch()
    (scenes / 'img' / '.hidden.JPG').touch()
    (line,) = check_files(dataset(scenes))
    assert "1 (e.g. 'preview.webp')" in line
    # Of two images of each scene the user has chosen one kind.
    for path in [*scenes.glob('*/?.*')]:
        path.rename(path.with_name(f'{path.stem}_left{path.suffix}'))
    (scenes / 'img' / 'preview.webp').unlink()
    (scenes / 'img' / 'a_right.jpg').touch()
    assert check_files(dataset(scenes, img_suffix='_left.jpg', seg_map_suffix='_left.png')) == []


def test_a_label_map_without_an_image_is_an_image_that_is_missing(scenes):
    (scenes / 'img' / 'b.jpg').unlink()
    with pytest.raises(FileNotFoundError, match=r"img/b\.jpg' .*not exist, and its label map '.*ann/b\.png'"):
        check_files(dataset(scenes))
    # Unless the label maps of all parts lie in one folder.
    (scenes / 'other').mkdir()
    (scenes / 'other' / 'b.jpg').touch()
    assert check_files(dataset(scenes))[0].endswith(
        "1 label maps of images that are not in '" + f"{scenes}/img' but beside it"
    )


def test_a_folder_or_a_dead_link_in_place_of_an_image_is_refused(scenes):
    (scenes / 'img' / 'e.jpg').mkdir()
    with pytest.raises(ValueError, match=r"img/e\.jpg' \(1 such\) is named like an image but is a folder"):
        check_files(dataset(scenes))
    (scenes / 'img' / 'e.jpg').rmdir()
    (scenes / 'ann' / 'e.png').symlink_to('gone.png')
    with pytest.raises(ValueError, match=r"ann/e\.png' \(1 such\) is named like an image but is a folder or a link"):
        check_files(dataset(scenes))


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        ('a\nnope', r"name '.*nope\.jpg' .*add it or leave it out"),
        ('a.jpg', r"name '.*a\.jpg\.jpg' .*'a\.jpg' does: leave the suffix out of the list"),
        ('a\n\nb', 'take the empty lines out of the list'),
    ],
)
def test_lists_with_entries_that_are_nothing_say_what_to_do(lines, message, scenes):
    (scenes / 'train.txt').write_text(lines)
    with pytest.raises(FileNotFoundError, match=message):
        check_files(dataset(scenes, ann_file='train.txt'))
    (scenes / 'train.txt').write_text('a\nb\na')
    assert check_files(dataset(scenes, ann_file='train.txt'))[0].endswith("img/a.jpg' more than once (1 such)")


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_an_image_that_is_cut_off_is_noticed_whatever_decodes_it(suffix, tmp_path):
    path = tmp_path / f'x{suffix}'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'written by a camera' * 20)
    check_whole(str(path))
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(
        ValueError, match=rf"^image '{path}' cannot be decoded \(.*truncated.*\); replace or delete it$"
    ):
        check_whole(str(path))


def loader(count: int, size: int, drop_last: bool = False) -> DataLoader:
    return DataLoader(range(count), batch_sampler=BatchSampler(range(count), size, drop_last))


class Pairs(BatchSampler):
    """A sampler of batches of a config's own."""


def test_a_norm_behind_a_pooling_to_1x1_needs_two_images_in_every_batch():
    assert [smallest_batch(loader(*one)) for one in ((9, 4), (8, 4), (9, 4, True), (3, 4))] == [1, 4, 4, 3]
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1))
    model.append(nn.BatchNorm2d(4))
    images = torch.rand(4, 3, 8, 8)
    end = watch_norms(model, 4, loader(9, 4))
    with pytest.raises(
        ValueError, match=r'^the last batch of 9 images by 4 .* model\.4 .*set train_dataloader\.drop_last'
    ):
        model(images)
    end()
    model(images)
    assert 'set train_dataloader.batch_sampler.drop_last=True, or' in one_value_message(
        '4', DataLoader(range(9), batch_sampler=Pairs(range(9), 4, False))
    )
    watch_norms(model, 4, loader(9, 4, True))
    watch_norms(model.eval(), 4, loader(9, 4))
    model(images)
    watch_norms(model.train(), 1, loader(9, 1))
    with pytest.raises(ValueError, match=r'^train_dataloader\.batch_size=1 has one image.*set it to 2 or more'):
        model(images[:1])


def test_a_score_that_is_not_a_number_is_an_error():
    config = SimpleNamespace(get=lambda key: 'mmseg')
    scores = dict(mIoU=50.0, mAcc=60.0, aAcc=70.0)
    assert task_scores(scores, config) == dict(mIoU=0.5, mAcc=0.6, aAcc=0.7)
    with pytest.raises(ValueError, match='mIoU is not a number: no pixel of the test set has a label'):
        task_scores({**scores, 'mIoU': float('nan')}, config)
    with pytest.raises(ValueError, match=r'the test has no mIoU, mAcc, aAcc \(it has mDice\)'):
        task_scores(dict(mDice=3.0), config)
    detector = SimpleNamespace(get=lambda key: 'mmdet', test_evaluator=dict(metric='bbox'))
    assert task_scores({}, detector) == dict(bbox_mAP=0.0)
    assert task_scores({'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_s': -1}, detector) == dict(bbox_mAP=0.5, bbox_mAP_s=-1)
    with pytest.raises(ValueError, match='bbox_mAP is -1: no object of the test set counts'):
        task_scores({'coco/bbox_mAP': -1}, detector)
