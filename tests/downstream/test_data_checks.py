"""Wrong data is one line that names the file, before training."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pycocotools.mask
import pytest
from downstream_runs import arguments, options
from PIL import Image

from distill.cli.train import main as train
from distill.downstream.checks.model import check_checkpoint
from distill.downstream.checks.sample import CheckSample, check_samples


def drop_image(root: Path) -> str:
    path = sorted((root / 'train2017').iterdir())[-1]
    path.unlink()
    return f"'{path}' (1 such), which does not exist"


def drop_label_map(root: Path) -> str:
    path = sorted((root / 'annotations' / 'training').iterdir())[-1]
    path.unlink()
    return f"'{path}' (1 such), which does not exist"


def rename_class(root: Path) -> str:
    path = root / 'annotations' / 'instances_train2017.json'
    path.write_text(path.read_text().replace('"bolt"', '"nut"'))
    return f"annotations '{path}' lack the class 'bolt' (1 such) of metainfo.classes; they have arrow, nut, circle"


def lose_objects(root: Path) -> str:
    path = root / 'annotations' / 'instances_train2017.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'annotations': []}))
    return f"data set '{path}' has no image with an object of the classes arrow, bolt"


def cut_annotations(root: Path) -> str:
    path = root / 'annotations' / 'instances_val2017.json'
    path.write_text(path.read_text()[:-9])
    return f"annotations '{path}' are no whole JSON file"


def encode_mask(root: Path) -> str:
    path = root / 'annotations' / 'instances_train2017.json'
    content = json.loads(path.read_text())
    encoded = pycocotools.mask.encode(np.ones((32, 64), np.uint8, order='F'))
    content['annotations'][0]['segmentation'] = {'size': [32, 64], 'counts': encoded['counts'].decode()}
    path.write_text(json.dumps(content))
    return f"annotations '{path}' have a mask of 32×64 pixels (height × width) for the image"


def shrink_image(root: Path) -> str:
    path = sorted((root / 'train2017').iterdir())[0]
    Image.open(path).resize((64, 32)).save(path)
    return f"image '{path}' has 32×64 pixels (height × width) but its annotations are for 64×64 pixels"


def shrink_label_map(root: Path) -> str:
    path = sorted((root / 'annotations' / 'training').iterdir())[0]
    Image.open(path).resize((64, 32)).save(path)
    return f"label map '{path}' has 32×64 pixels (height × width) and its image"


def raise_label(root: Path) -> str:
    path = sorted((root / 'annotations' / 'validation').iterdir())[0]
    labels = np.array(Image.open(path))
    labels[3, :5] = 11
    Image.fromarray(labels).save(path)
    return f"label map '{path}' has label 10 (5 pixels) but the model has 10 classes, 0 to 9"


def deepen_label_maps(root: Path) -> str:
    for path in (root / 'annotations' / 'training').iterdir():
        Image.fromarray(np.array(Image.open(path)).astype(np.uint16) * 256).save(path)
    return 'labels are whole numbers from 0 to 255; save class indices with 8 bits'


def whiten_foreground(root: Path) -> str:
    for path in (root / 'annotations' / 'training').iterdir():
        Image.fromarray((np.array(Image.open(path)) > 0).astype(np.uint8) * 255).save(path)
    return 'hold the values 0, 255, of which loading leaves no label; reduce_zero_label=True turns 0 into none'


def raise_suffix(root: Path) -> str:
    path = sorted((root / 'images' / 'validation').iterdir())[0]
    path.rename(path.with_suffix('.JPG'))
    return f"images in '{path.parent}' end in .jpg (3), .JPG (1), and img_suffix='.jpg' leaves out 1 with a label map"


BOX_HEADS = [f'model.roi_head.bbox_head.{i}.num_classes=7' for i in range(3)]
BATCHES = 'train_dataloader.batch_sampler.drop_last=True'
WRONG_DATA = [
    ('det', drop_image, []),
    ('det', rename_class, []),
    ('det', lose_objects, []),
    ('det', shrink_image, []),
    ('det', cut_annotations, []),
    (
        'det',
        'has 8 images and a batch 9, so that there is no whole batch; set batch_size=8 or less',
        ['train_dataloader.batch_size=9', BATCHES],
    ),
    ('mask', encode_mask, []),
    (
        'det',
        'the training set has 10 classes (arrow, bolt, circle, crescent, …) and model.roi_head.bbox_head.0',
        BOX_HEADS,
    ),
    ('seg', drop_label_map, []),
    ('seg', shrink_label_map, []),
    ('seg', raise_label, []),
    ('seg', deepen_label_maps, []),
    ('seg', whiten_foreground, []),
    ('seg', raise_suffix, []),
    (
        'seg',
        'train_dataloader.batch_size=1 has one image, of which the batch norm model.decode_head.image_pool.1.bn has',
        ['train_dataloader.batch_size=1'],
    ),
    ('seg', 'model.auxiliary_head has 7; set its num_classes=10', ['model.auxiliary_head.num_classes=7']),
    (
        'seg',
        'RandomCrop.crop_size (7, 96) is smaller than the largest stride of the backbone, 8',
        ['train_dataloader.dataset.pipeline.4.crop_size=(7,96)'],
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(('task', 'spoil', 'settings'), WRONG_DATA)
def test_wrong_data_is_one_line_before_training(task, spoil, settings, data, tmp_path, capsys):
    shutil.copytree(data, tmp_path / 'data')
    folder = tmp_path / 'data' / ('ade20k' if task == 'seg' else 'coco')
    message = spoil if isinstance(spoil, str) else spoil(folder)
    settings = [*settings, 'log_level=ERROR']
    assert train([*arguments(task, tmp_path / 'data', tmp_path / 'work'), *options(task, 1, *settings)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]
    assert not list((tmp_path / 'work').glob('*.pth'))


def test_a_checkpoint_of_other_classes_is_refused_and_starts_another_training_with_a_line():
    meta = {'dataset_meta': {'classes': ('a', 'b', 'c')}}
    for saved in (meta, {'dataset_meta': {'CLASSES': ['a', 'b', 'c']}}, {'CLASSES': ('a', 'b', 'c')}):
        assert check_checkpoint(saved, ['a', 'b', 'c'], 'x.pth', starts=False) is None
        with pytest.raises(ValueError, match=r"'x.pth' lacks d .*and has c besides"):
            check_checkpoint(saved, ['a', 'b', 'd'], 'x.pth', starts=False)
        for starts in (False, True):
            with pytest.raises(ValueError, match=r"'x.pth' has 'b' in place 1, where metainfo.classes has 'c'"):
                check_checkpoint(saved, ['a', 'c', 'b'], 'x.pth', starts)
    assert 'trained with other classes (a, b, c)' in check_checkpoint(meta, ['a', 'b', 'd'], 'x.pth', starts=True)
    assert check_checkpoint({}, ['a'], 'x.pth', starts=False) is None


def test_all_samples_of_a_small_set_are_checked_before_training():
    class Labels:
        pipeline = SimpleNamespace(transforms=[CheckSample(num_classes=2)])

        def __len__(self) -> int:
            return 100

        def get_data_info(self, index: int) -> dict:
            labels = np.full((2, 2), 2 if index == 57 else 0)
            return dict(ori_shape=(2, 2), gt_seg_map=labels, img_path='a.jpg', seg_map_path=f'{index}.png')

    with pytest.raises(ValueError, match=r"label map '57\.png' has label 2"):
        check_samples(Labels())
