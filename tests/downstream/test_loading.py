"""Pipelines decode images as the rest of the project does, under the name that OpenMMLab's inferencers look for."""

import copy
import warnings

import mmcv
import numpy as np
import pytest
import torch
from downstream_runs import CONFIGS, FOLDER
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.utils import get_test_pipeline_cfg
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS, DefaultScope
from mmseg.apis import MMSegInferencer, inference_model, init_model
from mmseg.apis.utils import _preprare_data
from PIL import Image

from distill.downstream.loading import LoadImageFromFile

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
DEEP = np.random.default_rng(0).integers(0, 65536, (40, 56), dtype=np.uint16)
TURNED = Image.Exif()
TURNED[0x112] = 6
FLAGS = ('color', 'grayscale', 'unchanged', 'color_ignore_orientation', 'grayscale_ignore_orientation')


@pytest.mark.parametrize('mode', ['RGB', 'L', 'P', 'LA', 'RGBA', '1'])
def test_images_with_8_bits_are_mmcvs(mode, tmp_path):
    path = str(tmp_path / 'x.png')
    Image.fromarray(PIXELS).convert(mode).save(path, exif=TURNED)
    for flag in FLAGS:
        options = dict(color_type=flag, imdecode_backend='pillow', to_float32=flag == 'color')
        found, expected = (kind(**options)({'img_path': path}) for kind in (LoadImageFromFile, MMCVLoadImageFromFile))
        assert np.array_equal(found.pop('img'), expected['img']), flag
        assert found.items() <= expected.items()


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_16_bits_are_scaled_as_opencv_scales_them(scope, suffix, tmp_path):
    """mmcv's Pillow backend clips nearly all of these to white."""
    path = str(tmp_path / f'x{suffix}')
    Image.fromarray(DEEP).save(path, **dict(exif=TURNED) if suffix == '.png' else {})
    names = [dict(type='LoadImageFromFile', imdecode_backend='pillow'), dict(type='LoadWholeImage')]
    with DefaultScope.overwrite_default_scope(scope), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for flag in FLAGS[:2]:
            for name in names:
                found = TRANSFORMS.build(dict(**name, color_type=flag))({'img_path': path})
                assert np.array_equal(found['img'], mmcv.imread(path, flag)), (name, flag)
                assert found['ori_shape'] == found['img'].shape[:2] == ((56, 40) if suffix == '.png' else (40, 56))


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
def test_damaged_images_are_one_line_and_others_mmcvs(backend, tmp_path):
    path = tmp_path / 'x.jpg'
    Image.fromarray(PIXELS).save(path)
    load = LoadImageFromFile(imdecode_backend=backend)
    assert np.array_equal(load({'img_path': str(path)})['img'], mmcv.imread(str(path), backend=backend))
    assert LoadImageFromFile().imdecode_backend == 'cv2'
    half = path.read_bytes()[: path.stat().st_size // 2]
    for content in (b'no image', b'', *([half] if backend == 'pillow' else [])):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^image '{path}' cannot be decoded \(.*\); replace or delete it$"):
            load({'img_path': str(path)})
    with pytest.raises(FileNotFoundError, match=r"^image '.*gone\.jpg' does not exist"):
        load({'img_path': str(tmp_path / 'gone.jpg')})
    assert LoadImageFromFile(imdecode_backend='pillow', ignore_empty=True)({'img_path': str(path)}) is None


def test_held_images_are_decoded_once_and_whole(tmp_path):
    paths = [str(tmp_path / f'{index}.png') for index in range(3)]
    for path in paths:
        Image.fromarray(PIXELS).save(path)
    load = LoadImageFromFile(imdecode_backend='pillow', hold_mib=2.5 * PIXELS.nbytes / 2**20)  # Two of the three.
    for path in paths:
        load({'img_path': path})['img'][:] = 0  # What is done to an image does not reach what is held.
    for path in paths:
        Image.fromarray(255 - PIXELS).save(path)
    for path, expected in zip(paths, [PIXELS, PIXELS, 255 - PIXELS], strict=True):
        found = load({'img_path': path})
        assert np.array_equal(found['img'], expected[:, :, ::-1])
        assert found['ori_shape'] == PIXELS.shape[:2]


@pytest.mark.parametrize('kind', [np.float32, np.int32])
def test_values_without_a_known_range_are_refused(kind, tmp_path):
    Image.fromarray(DEEP.astype(kind)).save(tmp_path / 'x.tif')
    with pytest.raises(ValueError, match=r'x\.tif.*whose range is unknown: save it with 8 or 16 bits'):
        LoadImageFromFile(imdecode_backend='pillow')({'img_path': str(tmp_path / 'x.tif')})


@pytest.fixture(scope='module')
def image(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp('image') / 'deep.png'
    Image.fromarray(DEEP).save(path)
    return str(path)


@pytest.mark.filterwarnings('ignore')
def test_inferencers_take_paths_and_arrays_by_the_pipeline_of_every_leaf(leaves, image):
    pixels, seen = mmcv.imread(image), {}
    for name, config in leaves.items():
        pipeline = str(config.test_dataloader.dataset.pipeline)
        if pipeline in seen:
            continue
        seen[pipeline] = name
        with DefaultScope.overwrite_default_scope(config.default_scope):
            kind = DetInferencer if config.default_scope == 'mmdet' else MMSegInferencer
            inferencer = kind.__new__(kind)
            steps = inferencer._init_pipeline(copy.deepcopy(config))
            found = [steps(source)['inputs'] for source in (image, pixels)]
            if kind is DetInferencer:
                found += [Compose(get_test_pipeline_cfg(config))(dict(img_path=image, img_id=0))['inputs']]
            else:
                model = torch.nn.Module()
                model.cfg = copy.deepcopy(config)
                found += [_preprare_data(source, model)[0]['inputs'][0] for source in (image, pixels)]
        assert all(torch.equal(one, found[0]) for one in found), name
    # Of every model kind and every data set there is at least one.
    assert len(seen) >= 5


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('task', ['mask', 'seg'])
def test_notebooks_and_inferencers_predict_with_a_checkpoint_of_ours(task, checkpoints, image):
    config, weights = str(FOLDER / CONFIGS[task]), str(checkpoints[task])
    pixels = mmcv.imread(image)
    if task == 'seg':
        model, inferencer = init_model(config, weights, 'cpu'), MMSegInferencer(config, weights, device='cpu')
        found = [inference_model(model, source).pred_sem_seg.data[0].numpy() for source in (image, pixels)]
        found += [inferencer(source)['predictions'] for source in (image, pixels)]
    else:
        model = init_detector(config, weights, device='cpu')
        inferencer = DetInferencer(config, weights, device='cpu', show_progress=False)
        found = [inference_detector(model, source).pred_instances.scores.numpy() for source in (image, pixels)]
        found += [np.float32(inferencer(source)['predictions'][0]['scores']) for source in (image, pixels)]
    assert len(model.dataset_meta['classes']) == 10
    assert found[0].size
    for one in found[1:]:
        assert np.array_equal(one, found[0])
