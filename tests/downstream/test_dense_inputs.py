"""A teacher sees what its own preprocessor would have made of the student's images."""

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')

import backbones.openmmlab  # noqa: F401 - before anything imports mmcv's operators

# isort: split
from mmdet.models import DetDataPreprocessor
from mmdet.structures import DetDataSample
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample

from distill.downstream.dense_inputs import ForTeacher

TORCHVISION = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)
PREPROCESSORS = {
    'torchvision': DetDataPreprocessor(**TORCHVISION, pad_size_divisor=32),
    'caffe': DetDataPreprocessor(**CAFFE, pad_size_divisor=32),
    'wide': DetDataPreprocessor(**TORCHVISION, pad_size_divisor=128, pad_value=2.5),
    'scaled': DetDataPreprocessor(mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True, pad_size_divisor=32),
    'raw': DetDataPreprocessor(pad_size_divisor=32, pad_value=114),
    'segmenter': SegDataPreProcessor(**TORCHVISION, size=(64, 96)),
    'caffe_segmenter': SegDataPreProcessor(**CAFFE, size=(64, 96), pad_val=-1),
}
SIZES = ((40, 70), (64, 96), (33, 20))


def batch(images: list[torch.Tensor], name: str) -> dict:
    """What a preprocessor makes of images in training."""
    preprocessor = PREPROCESSORS[name]
    kind = SegDataSample if 'segmenter' in name else DetDataSample
    samples = [kind(metainfo=dict(img_shape=tuple(image.shape[-2:]))) for image in images]
    data = dict(inputs=[image.clone() for image in images], data_samples=samples)
    if kind is SegDataSample:
        for sample, image in zip(samples, images, strict=True):
            sample.gt_sem_seg = PixelData(data=torch.zeros(1, *image.shape[-2:], dtype=torch.long))
    return preprocessor(data, training=True)


@pytest.fixture
def images() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in SIZES]


@pytest.mark.parametrize('student', PREPROCESSORS)
@pytest.mark.parametrize('teacher', PREPROCESSORS)
def test_the_batch_is_what_the_teachers_own_preprocessor_makes(student, teacher, images):
    seen = batch(images, student)
    made, samples = ForTeacher(PREPROCESSORS[student], PREPROCESSORS[teacher])(seen['inputs'], seen['data_samples'])
    expected = batch(images, teacher)['inputs']
    largest = [max(one, other) for one, other in zip(made.shape[-2:], expected.shape[-2:], strict=True)]
    pad = {'wide': 2.5, 'raw': 114, 'caffe_segmenter': -1}.get(teacher, 0)
    assert list(made.shape[-2:]) == largest
    full = torch.full_like(made, pad)
    full[..., : expected.shape[-2], : expected.shape[-1]] = expected
    assert torch.allclose(made, full, atol=2e-4 * max(1.0, full.abs().max().item() / 100))
    if student == teacher:
        assert made is seen['inputs']
    if made.shape != seen['inputs'].shape:
        assert samples[0].batch_input_shape == tuple(made.shape[-2:])
        assert seen['data_samples'][0] is not samples[0]


def test_clean_images_take_the_place_of_the_students(images):
    seen = batch([255 - image for image in images], 'torchvision')
    for sample, image in zip(seen['data_samples'], images, strict=True):
        sample.set_field(image, 'clean')
    made, _ = ForTeacher(PREPROCESSORS['torchvision'], PREPROCESSORS['caffe'])(seen['inputs'], seen['data_samples'])
    assert torch.equal(made, batch(images, 'caffe')['inputs'])


def test_clean_images_of_another_geometry_are_refused(images):
    seen = batch(images, 'torchvision')
    for sample in seen['data_samples']:
        sample.set_field(torch.zeros(3, 200, 20), 'clean')
    with pytest.raises(ValueError, match='the clean image is 200x20 and the batch 64x96'):
        ForTeacher(PREPROCESSORS['torchvision'], PREPROCESSORS['caffe'])(seen['inputs'], seen['data_samples'])
