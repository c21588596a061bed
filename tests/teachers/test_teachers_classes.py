"""A teacher answers in the order of the data's classes, live, in an ensemble and from a cache, or is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from small_teacher import CONFIG, options, save_teacher

from distill.cli.cache import main as cache_teacher
from distill.data.preprocessor import ViewPreprocessor
from distill.data.readers import class_names
from distill.data.views import Views
from distill.teachers.build import build_teacher

KEYS = torch.tensor([[index, view] for view in (0, 1) for index in range(0, 80, 9)])


@pytest.fixture(scope='module')
def data(shapes) -> Views:
    return Views(str(shapes), 'train', transform=dict(input_size=32))


@pytest.fixture(scope='module')
def backwards(data, tmp_path_factory) -> Path:
    """The weights of the fixture `checkpoint`, of which the record says that the classes are in reverse."""
    return save_teacher(tmp_path_factory.mktemp('backwards') / 'student_best.pth', classes=data.classes[::-1])


def answer(config, data: Views, images: torch.Tensor | None = None) -> torch.Tensor:
    """Logits of random images, or of the views of a cache."""
    teacher = build_teacher(config)
    teacher.order_classes(data)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) if images is None else images
    return teacher(ViewPreprocessor().view_batch(images, KEYS)).logits


def test_logits_follow_the_datas_order(checkpoint, backwards, data, tmp_path):
    plain = answer(dict(checkpoint=str(checkpoint)), data)
    assert torch.equal(answer(dict(checkpoint=str(backwards)), data), plain.flip(1))
    # By hand: the class that the data calls third is the last but two of the teacher.
    assert torch.equal(answer(dict(checkpoint=str(backwards)), data)[:, 2], plain[:, 7])
    several = answer([dict(checkpoint=str(checkpoint)), dict(checkpoint=str(backwards))], data)
    torch.testing.assert_close(several.exp(), (plain.softmax(1) + plain.flip(1).softmax(1)) / 2)
    same = save_teacher(tmp_path / 'same.pth', classes=data.classes)
    assert torch.equal(answer(dict(checkpoint=str(same)), data), plain)


def test_a_teacher_of_other_classes_is_refused(checkpoint, backwards, data, tmp_path):
    other = save_teacher(tmp_path / 'other.pth', classes=['blob', *data.classes[1:]])
    message = rf"train' lacks blob \(1 of 10\) and has {data.classes[0]} besides .* the teacher '.*other.pth': blob, "
    for config in (dict(checkpoint=str(other)), [dict(checkpoint=str(backwards)), dict(checkpoint=str(other))]):
        with pytest.raises(ValueError, match=message):
            answer(config, data)


@pytest.mark.parametrize('topk', ['10', '3'])
def test_a_cache_holds_logits_in_the_datas_order(checkpoint, backwards, shapes, caches, tmp_path, topk):
    command = [str(CONFIG), '--data-root', str(shapes), '--out', str(tmp_path / 'cache'), '--dtype', 'float32']
    assert cache_teacher([*command, '--topk', topk, '--verify', '8', '--cfg-options', *options(backwards)]) == 0
    data = Views(str(shapes), 'train')
    images = torch.empty(0)
    stored = answer(dict(cache=tmp_path / 'cache', checkpoint=str(backwards)), data, images)
    expected = answer(dict(cache=caches['fp32']), data, images).flip(1)
    best = expected.argmax(1)
    assert torch.equal(stored.argmax(1), best)
    if topk == '10':
        torch.testing.assert_close(stored, expected)
    # Data that are labelled in the order of a student get the logits in that order.
    data.order_classes(data.classes[::-1], 'the student')
    ordered = answer(dict(cache=tmp_path / 'cache', checkpoint=str(backwards)), data, images)
    assert torch.equal(ordered, stored.flip(1))
    # A cache of earlier versions has the teacher's own order.
    older = shutil.copytree(tmp_path / 'cache', tmp_path / 'older')
    manifest = json.loads((older / 'manifest.json').read_text())
    assert manifest['teacher'].pop('classes') == class_names(data.reader)
    (older / 'manifest.json').write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"older' has the teacher's classes in another order than .*; write it again"):
        answer(dict(cache=older, checkpoint=str(backwards)), data, images)


def test_the_cache_of_a_teacher_in_the_datas_order_says_nothing_new(caches):
    assert 'classes' not in json.loads((caches['fp16'] / 'manifest.json').read_text())['teacher']
