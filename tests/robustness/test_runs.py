"""Models under evaluation: their names, their size, and ONNX files."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from backbones.checkpoint import save_model
from backbones.record import ModelRecord
from distill.engines import by_name
from distill.engines.onnx_runtime import add_metadata
from distill.robustness.runs import load_run, teacher_name
from distill.robustness.sources import Source


def save(path: Path, **description) -> Path:
    """Save a small ViT of ten classes."""
    network = timm.create_model('test_vit', num_classes=10)
    record = {'model': 'test_vit', 'model_kwargs': {'num_classes': 10}, 'classes': list('abcdefghij'), **description}
    path.parent.mkdir(exist_ok=True)
    save_model(path, network, ModelRecord.from_json(record))
    return path


def test_a_model_of_one_size_is_resampled_to_another_where_timm_can(tmp_path):
    path = str(save(tmp_path / 'vit.pth'))
    own, larger = load_run(path, 'cpu'), load_run(path, 'cpu', 192)
    assert (own.record['input_size'], larger.record['input_size']) == ([3, 160, 160], [3, 192, 192])
    assert own.record['weights_sha256'] == larger.record['weights_sha256']
    assert larger.transform['input_size'] == (192, 192)
    trained = str(save(tmp_path / 'trained.pth', input_size=[3, 160, 160]))
    assert [load_run(trained, 'cpu', size).transform['crop_pct'] for size in (None, 192)] == [1, 1]
    assert larger.predict(torch.zeros(2, 3, 192, 192, dtype=torch.uint8)).shape == (2, 10)


@pytest.mark.parametrize(
    ('teacher', 'name'),
    [
        (None, None),
        ({'model': 'resnet50', 'pretrained': True}, 'resnet50'),
        ({'model': 'resnet50', 'checkpoint': 'work_dirs/teacher/student_best.pth'}, 'teacher'),
        ({'model': 'resnet50', 'checkpoint': 'weights/r50.pth', 'cache': 'caches/r50'}, 'r50'),
        ([{'weight': 0.5, 'model': 'deit'}, {'weight': 0.5, 'checkpoint': 'a/cnn/student_best.pth'}], 'deit + cnn'),
    ],
)
def test_a_teacher_is_named_after_its_run_or_model_and_several_are_all_named(teacher, name, tmp_path):
    assert teacher_name(teacher) == name
    run = load_run(str(save(tmp_path / 'run' / 'student_best.pth', teacher=teacher)), 'cpu')
    assert (run.name, run.record['teacher']) == ('run', name)


HAS_ONNX = all(importlib.util.find_spec(name) for name in ('onnx', 'onnxruntime'))


def write_onnx(path: Path, weight: np.ndarray, batch: int | str) -> None:
    """Write a network of the mean colour and a linear layer."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [
        helper.make_node('GlobalAveragePool', ['image'], ['pooled']),
        helper.make_node('Flatten', ['pooled'], ['flat']),
        helper.make_node('MatMul', ['flat', 'weight'], ['logits']),
    ]
    ends = [
        helper.make_tensor_value_info('image', TensorProto.FLOAT, [batch, 3, 'height', 'width']),
        helper.make_tensor_value_info('logits', TensorProto.FLOAT, [batch, weight.shape[1]]),
    ]
    graph = helper.make_graph(nodes, 'linear', ends[:1], ends[1:], [numpy_helper.from_array(weight, 'weight')])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=10), path)


@pytest.mark.skipif(not HAS_ONNX, reason="onnx or onnxruntime is missing; pip install '.[onnx]'")
@pytest.mark.parametrize('batch', ['batch', 4])
def test_onnx(tmp_path, batch):
    weight = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    write_onnx(tmp_path / 'linear.onnx', weight, batch)
    run = load_run(str(tmp_path / 'linear.onnx'), 'cpu')
    assert (run.name, run.record['params'], run.record['model']) == ('linear.onnx', 15, 'linear')
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    mean, std = (torch.tensor(run.record[key]) for key in ('mean', 'std'))
    expected = ((images.float().mean((2, 3)) / 255 - mean) / std) @ torch.from_numpy(weight)
    torch.testing.assert_close(run.predict(images), expected, atol=1e-5, rtol=1e-5)
    (tmp_path / 'linear.onnx').write_bytes(b'nothing')
    with pytest.raises(ValueError, match='cannot be read as ONNX'):
        load_run(str(tmp_path / 'linear.onnx'), 'cpu')


@pytest.mark.skipif(not HAS_ONNX, reason="onnx or onnxruntime is missing; pip install '.[onnx]'")
def test_an_onnx_file_tells_how_images_are_shown_without_its_manifest(tmp_path):
    write_onnx(tmp_path / 'linear.onnx', np.ones((3, 5), np.float32), 'batch')
    shown = {'size': [24, 24], 'dtype': 'float32', 'mean': [0.1, 0.2, 0.3], 'std': [0.5, 0.5, 0.5], 'crop_pct': 0.7}
    shown |= {'crop_mode': 'center', 'interpolation': 'bilinear'}
    names = ['a', 'b', 'c', 'd', 'e']
    texts = {'preprocessing': json.dumps(shown), 'classes': json.dumps(names), 'model': 'mine'}
    add_metadata(tmp_path / 'linear.onnx', texts)
    run = load_run(str(tmp_path / 'linear.onnx'), 'cpu')
    assert (run.record['mean'], run.record['model'], run.classes) == ([0.1, 0.2, 0.3], 'mine', names)
    assert (run.transform['crop_pct'], run.transform['interpolation']) == (0.7, 'bilinear')


def test_another_file_without_its_manifest_is_refused(tmp_path):
    pytest.importorskip('openvino')
    weight = np.ones((3, 5), np.float32)
    write_onnx(tmp_path / 'linear.onnx', weight, 'batch')
    by_name('openvino').convert(tmp_path / 'linear.onnx', tmp_path / 'linear.xml', {'images': {}})
    with pytest.raises(ValueError, match=r"has no manifest 'linear\.xml\.json' beside it"):
        load_run(str(tmp_path / 'linear.xml'), 'cpu')
    assert load_run(str(tmp_path / 'linear.xml'), 'cpu', mean=(0, 0, 0), std=(1, 1, 1)).record['mean'] == [0, 0, 0]


@pytest.mark.skipif(HAS_ONNX, reason='onnx and onnxruntime are installed')
def test_onnx_asks_for_its_packages(tmp_path):
    (tmp_path / 'x.onnx').touch()
    with pytest.raises(ValueError, match=r"needs onnx.* not installed; pip install 'robust-backbones\[onnx\]'"):
        load_run(str(tmp_path / 'x.onnx'), 'cpu')


@pytest.mark.parametrize(
    ('text', 'name'),
    [('hf-hub:timm/resnet50', 'resnet50'), ('local-dir:models/mine/', 'mine'), ('resnet18.x', 'resnet18.x')],
)
def test_a_run_is_called_after_the_last_part_of_a_name(text, name):
    assert Source.parse(text).name == name


@pytest.mark.parametrize('name', ['../x', 'a/b', '..', 'a\\b'])
def test_the_name_of_a_run_leads_nowhere(tmp_path, name):
    (tmp_path / 'x.pth').touch()
    with pytest.raises(ValueError, match="cannot be a folder's; choose one without"):
        Source.parse(f'{name}={tmp_path}/x.pth').check()


def test_a_run_says_what_was_named_and_where_its_classes_are_from(tmp_path):
    path = save(tmp_path / 'vit.pth')
    run = load_run(f'mine=test_vit@{path}', 'cpu', mean=[0.1, 0.2, 0.3])
    assert (run.name, run.record['source'], run.record['checkpoint']) == ('mine', f'test_vit@{path}', str(path))
    assert (run.record['classes_from'], run.record['mean']) == ('told', [0.1, 0.2, 0.3])
    torch.save(timm.create_model('test_vit').state_dict(), tmp_path / 'imagenet.pth')
    run = load_run(f'test_vit@{tmp_path}/imagenet.pth', 'cpu')
    assert (run.classes[0], run.record['classes_from']) == ('n01440764', 'assumed')
    torch.save(timm.create_model('test_vit', num_classes=0).state_dict(), tmp_path / 'headless.pth')
    with pytest.raises(ValueError, match=r'has no classifier .*nothing to judge'):
        load_run(f'test_vit,num_classes=0@{tmp_path}/headless.pth', 'cpu')
