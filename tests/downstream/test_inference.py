"""What a detector or segmenter says of a user's image is what its test says of the same image."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from downstream_runs import CONFIGS, FOLDER, arguments
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from distill.cli.predict import main as predict
from distill.cli.test import main as run_test
from distill.predict import Detection, Segmentation, load_predictor


@pytest.fixture(scope='module')
def images(data) -> dict[str, list[str]]:
    """The test images of each task."""
    folders = {'mask': data / 'coco' / 'val2017', 'seg': data / 'ade20k' / 'images' / 'validation'}
    return {task: sorted(map(str, folder.iterdir())) for task, folder in folders.items()}


def expected_of(task: str, data: Path, checkpoint: Path, folder: Path) -> dict[str, dict]:
    """What ``test --out`` writes, by the image's file."""
    out = folder / 'predictions.pkl'
    more = ['--cfg-options', 'test_dataloader.batch_size=1', 'visualizer.vis_backends=[]']
    assert run_test([*arguments(task, data, folder / 'work'), str(checkpoint), '--out', str(out), *more]) == 0
    return {one['img_path']: one for one in pickle.loads(out.read_bytes())}


def test_objects_are_those_of_the_test_bit_for_bit(data, checkpoints, images, tmp_path):
    expected = expected_of('mask', data, checkpoints['mask'], tmp_path)
    predictor = load_predictor(checkpoints['mask'], device='cpu', score_threshold=0)
    assert predictor.task == 'detection'
    for found in predictor.predict(images['mask'], batch_size=1):
        assert isinstance(found, Detection)
        instances = expected[found.path]['pred_instances']
        order = instances['scores'].argsort(descending=True, stable=True)
        assert len(found) > 0
        assert np.array_equal(found.boxes, instances['bboxes'][order].numpy())
        assert np.array_equal(found.scores, instances['scores'][order].numpy())
        assert np.array_equal(found.labels, instances['labels'][order].numpy())
        masks = coco_masks.decode([instances['masks'][k] for k in order]).transpose(2, 0, 1).astype(bool)
        assert np.array_equal(found.masks, masks)


def test_labels_are_those_of_the_test(data, checkpoints, images, tmp_path):
    expected = expected_of('seg', data, checkpoints['seg'], tmp_path)
    predictor = load_predictor(checkpoints['seg'], device='cpu')
    assert predictor.task == 'segmentation'
    for found in predictor.predict(images['seg'], batch_size=1):
        assert isinstance(found, Segmentation)
        assert np.array_equal(found.labels, expected[found.path]['pred_sem_seg']['data'][0].numpy())
        assert sum(found.shares.values()) == pytest.approx(1)
        assert np.array_equal(np.asarray(found.label_map()), found.labels)


@pytest.mark.parametrize('task', ['mask', 'seg'])
def test_a_batch_gives_what_single_images_give(checkpoints, images, tmp_path, task):
    """Also where one of them is of another size, and so is not padded for the others' sake."""
    odd = tmp_path / 'odd.png'
    Image.open(images[task][0]).resize((96, 40)).save(odd)
    files = [*images[task], str(odd)]
    files.insert(1, files.pop())
    predictor = load_predictor(checkpoints[task], device='cpu', score_threshold=0.05)
    for one, many in zip(predictor.predict(files, 1), predictor.predict(files, 8, workers=1), strict=True):
        assert one.path == many.path
        if task == 'seg':
            assert (one.labels != many.labels).mean() < 1e-3
        else:
            np.testing.assert_allclose(one.scores, many.scores, atol=1e-5)
            np.testing.assert_allclose(one.boxes, many.boxes, rtol=1e-5, atol=1e-3)


def test_results_refer_to_the_upright_image(checkpoints, images, tmp_path):
    upright = Image.open(images['mask'][0]).convert('RGB').resize((96, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(tmp_path / 'upright.png')
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / 'turned.png', exif=exif)
    one, other = load_predictor(checkpoints['mask'], device='cpu', score_threshold=0).predict(
        [tmp_path / 'upright.png', tmp_path / 'turned.png']
    )
    assert other.shown.size == (96, 64)
    assert other.masks.shape[1:] == (64, 96)
    assert np.array_equal(one.boxes, other.boxes)


def test_a_file_is_read_by_the_decoder_that_the_config_names(checkpoints, images):
    """mmcv's default is OpenCV, whose JPEG differs from Pillow's by a level here and there."""
    predictor = load_predictor(checkpoints['mask'], device='cpu', score_threshold=0)
    model = predictor.model.model
    by_pillow = model.sample(np.asarray(Image.open(images['mask'][0]).convert('RGB')))
    model.reads_by_pillow = False
    by_file = model.sample(np.zeros((64, 64, 3), np.uint8), images['mask'][0])
    assert np.array_equal(by_pillow['inputs'].numpy(), by_file['inputs'].numpy())


def test_the_config_is_found_beside_the_checkpoint_or_asked_for(checkpoints, images, tmp_path):
    work_dir = checkpoints['mask'].parent
    shutil.copy(checkpoints['mask'], tmp_path)
    alone = tmp_path / checkpoints['mask'].name
    with pytest.raises(ValueError, match='--config'):
        load_predictor(alone, device='cpu')
    named = load_predictor(alone, FOLDER / CONFIGS['mask'], device='cpu')
    assert named.classes == load_predictor(checkpoints['mask'], device='cpu').classes
    # Of several configs, the one whose run has written the checkpoint.
    for path in (*work_dir.glob('*.py'), *checkpoints['seg'].parent.glob('*.py')):
        shutil.copy(path, tmp_path)
    assert load_predictor(alone, device='cpu').task == 'detection'
    with pytest.raises(ValueError, match='lacks'):
        load_predictor(alone, FOLDER / CONFIGS['seg'], device='cpu')


def test_a_predictor_leaves_the_scope_of_the_process_as_it_was(checkpoints, images):
    before = DefaultScope.get_current_instance()
    for task in ('mask', 'seg'):
        load_predictor(checkpoints[task], device='cpu').predict(images[task][0])
        now = DefaultScope.get_current_instance()
        assert (now and now.scope_name) == (before and before.scope_name)


def test_a_backbone_is_built_without_the_file_that_training_began_with(checkpoints, tmp_path):
    """The checkpoint has all weights; what the backbone was pretrained as may lie elsewhere by now."""
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{FOLDER / CONFIGS['mask']}'\nmodel = dict(backbone=dict(checkpoint='gone.pth'))\n")
    assert load_predictor(checkpoints['mask'], config, device='cpu').task == 'detection'


def test_classes_are_those_of_the_checkpoint(checkpoints):
    predictor = load_predictor(checkpoints['mask'], device='cpu')
    renamed = load_predictor(checkpoints['mask'], device='cpu', classes=[name.upper() for name in predictor.classes])
    assert renamed.classes == [name.upper() for name in predictor.classes]
    with pytest.raises(ValueError, match='1 names are known'):
        load_predictor(checkpoints['mask'], device='cpu', classes=['one'])
    with pytest.raises(ValueError, match="no 'input_size'"):
        load_predictor(checkpoints['mask'], device='cpu', input_size=32)


def test_the_file_of_a_detector_is_a_results_file_of_coco(data, checkpoints, images, tmp_path):
    out = tmp_path / 'out'
    command = [data / 'coco' / 'val2017', '--model', checkpoints['mask'], '--out', out, '--score-threshold', 0.01]
    assert predict([*map(str, command), '--device', 'cpu', '--workers', '0']) == 0
    content = json.loads((out / 'predictions.json').read_text())
    objects = [one for image in content['images'] for one in image['objects']]
    assert objects
    truth = COCO()
    truth.dataset = {'images': content['images'], 'categories': content['categories'], 'annotations': [], 'info': {}}
    truth.createIndex()
    assert len(truth.loadRes(objects).anns) == len(objects)
    found = load_predictor(checkpoints['mask'], device='cpu', score_threshold=0.01).predict(images['mask'], 8)
    left, top, width, height = content['images'][0]['objects'][0]['bbox']
    np.testing.assert_allclose([left, top, left + width, top + height], found[0].boxes[0], rtol=1e-5)
    mask = coco_masks.decode(content['images'][0]['objects'][0]['segmentation'])
    assert np.array_equal(mask.astype(bool), found[0].masks[0])


def test_the_label_map_has_the_size_of_the_image(data, checkpoints, images, tmp_path):
    Image.open(images['seg'][0]).resize((100, 70)).save(tmp_path / 'x.png')
    command = [tmp_path / 'x.png', '--model', checkpoints['seg'], '--out', tmp_path / 'out']
    assert predict([*map(str, command), '--device', 'cpu', '--workers', '0']) == 0
    content = json.loads((tmp_path / 'out' / 'predictions.json').read_text())
    entry = content['images'][0]
    labels = np.asarray(Image.open(tmp_path / 'out' / entry['labels']))
    assert labels.shape == (70, 100)
    for one in entry['classes']:
        assert (labels == one['id']).sum() == one['pixels']


def test_an_image_that_the_pipeline_cannot_take_is_named_and_the_others_are_not_lost(checkpoints, images, tmp_path):
    Image.new('RGB', (9000, 1)).save(tmp_path / 'line.png')
    predictor = load_predictor(checkpoints['mask'], device='cpu')
    outcomes = list(predictor.stream([images['mask'][0], str(tmp_path / 'line.png'), images['mask'][1]], 8))
    assert [one.prediction is None for one in outcomes] == [False, True, False]
    assert 'line.png' in outcomes[1].error
    assert 'too narrow' in outcomes[1].error


def test_pictures_of_detectors_and_segmenters_are_drawn_at_any_size(checkpoints, images):
    for task in ('mask', 'seg'):
        predictor = load_predictor(checkpoints[task], device='cpu', score_threshold=0)
        for size in ((30, 20), (300, 40)):
            picture = predictor.predict(Image.open(images[task][0]).resize(size))[0].draw()
            assert 640 <= max(picture.size) < 1200
