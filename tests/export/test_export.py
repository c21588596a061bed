"""A model becomes files that compute what it computes, say what they are, and are judged like the model."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

import backbones  # noqa: F401 - registers this project's models
import distill
from backbones.loading import load
from distill.api.checks import check_explanation
from distill.engines import by_name
from distill.engines.artefact import Manifest, artefact_sha256
from distill.export.deploy import deploy
from distill.export.files import ExportError
from distill.export.images import sample
from distill.export.verify import compare, first_difference, top1_agreement
from distill.robustness.runs import load_run
from distill.robustness.sources import Source

TINY = dict(dims=(8, 16, 16, 16), depths=(1, 1, 2, 1), num_classes=7)
CLASSES = list('abcdefg')
QUICK = [name for name in ('onnx', 'openvino', 'mnn', 'torch') if by_name(name).missing() is None]

pytestmark = pytest.mark.skipif('onnx' not in QUICK, reason='onnx, onnxscript or onnxruntime is missing')


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    network = timm.create_model('robust_resnet_dw_small', **TINY).eval()
    for module in network.modules():
        if getattr(module, 'running_mean', None) is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.fixture(scope='module')
def loaded(network):
    return load(network, input_size=64, classes=CLASSES)


@pytest.fixture(scope='module')
def exported(loaded, tmp_path_factory):
    """The tiny model in the engines that write soon."""
    folder = tmp_path_factory.mktemp('exported')
    return {one.manifest.engine: one for one in distill.export_model(loaded, folder, QUICK, progress=False)}


def test_each_file_is_verified_and_described(exported, loaded):
    for name, one in exported.items():
        manifest = Manifest.read(one.path)
        assert manifest == one.manifest
        assert (manifest.engine, manifest.sha256) == (name, artefact_sha256(one.path))
        assert (manifest.dynamic, manifest.batch) == (['batch', 'height', 'width'], None)
        assert manifest.weights_sha256 == loaded.record.weights_sha256
        assert manifest.classes == CLASSES
        assert any('batch norms folded' in step for step in manifest.steps)
        verified = manifest.verification
        assert (verified.images, verified.agreement) == ('synthetic', 1.0)
        assert 0 < verified.max_difference < 1e-5
    files = {path.name for path in one.path.parent.iterdir()}
    beside = {f'{one.path.name}.json' for one in exported.values()}
    weights = {one.path.with_suffix('.bin').name for name, one in exported.items() if name == 'openvino'}
    assert files == {one.path.name for one in exported.values()} | beside | weights


def test_an_onnx_file_tells_of_itself(exported, loaded):
    import onnx

    model = onnx.load(exported['onnx'].path)
    told = {one.key: one.value for one in model.metadata_props}
    assert json.loads(told['classes']) == CLASSES
    assert json.loads(told['preprocessing'])['mean'] == loaded.record.mean
    assert told['weights_sha256'] == loaded.record.weights_sha256
    axes = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert axes == ['batch', 3, 'height', 'width']
    assert max(one.version for one in model.opset_import if not one.domain) >= 18
    assert not [node for node in model.graph.node if node.op_type == 'BatchNormalization']


@pytest.mark.parametrize('name', QUICK)
def test_the_judge_sees_the_model_in_the_file(name, exported, network, loaded):
    path = exported[name].path
    run, own = load_run(str(path), 'cpu'), load_run(f'x={path}', 'cpu', 96)
    assert run.record['weights_sha256'] == artefact_sha256(path)
    assert (run.classes, run.record['input_size'], run.record['params']) == (CLASSES, [3, 64, 64], count(network))
    assert (run.record['mean'], run.transform['crop_pct']) == (loaded.record.mean, loaded.record.crop_pct)
    for one, size in ((run, 64), (own, 96)):
        images = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (run.mean, run.std))
        with torch.no_grad():
            expected = network((images / 255 - mean) / std)
        torch.testing.assert_close(one.predict(images), expected, atol=1e-5, rtol=1e-4)


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_fixed_batch_and_size_with_normalisation_inside(loaded, network, tmp_path):
    (one,) = distill.export_model(
        loaded, tmp_path, 'onnx', name='raw', uint8=True, batch=4, fixed_size=True, progress=False
    )
    manifest = one.manifest
    assert (manifest.dtype, manifest.batch, manifest.dynamic) == ('uint8', 4, [])
    assert manifest.details['fixed_because'] == 'as was asked for'
    run = load_run(str(one.path), 'cpu')
    images = torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (run.mean, run.std))
    with torch.no_grad():
        torch.testing.assert_close(run.predict(images), network((images / 255 - mean) / std), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match='takes images of 64x64 pixels only; leave out --input-size'):
        load_run(str(one.path), 'cpu', 96)
    with pytest.raises(ValueError, match='normalises its images itself; leave out mean and std'):
        load_run(str(one.path), 'cpu', mean=[0, 0, 0])


def test_a_feature_pyramid(loaded, network, tmp_path):
    (one,) = distill.export_model(loaded, tmp_path, 'onnx', features=[1, -1], progress=False)
    assert one.path.name == 'RobustResNet_features.onnx'
    assert (one.manifest.task, one.manifest.outputs) == ('features', ['map_1', 'map_3'])
    assert one.manifest.details['strides'] == [16, 32]
    images = torch.randn(1, 3, 96, 64)
    maps = by_name('onnx').open(one.path).run(images.numpy())
    with torch.no_grad():
        expected = network.forward_intermediates(images, indices=[1, 3], intermediates_only=True)
    for found, wanted in zip(maps, expected, strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match='is no classifier but exported for features'):
        load_run(str(one.path), 'cpu')
    with pytest.raises(ValueError, match=r'--features 4 is not in .*, which has 0 to 3'):
        deploy(loaded, [4])


def perturbed(exported, folder: Path, layer: str) -> Path:
    """The ONNX file with another weight in a layer."""
    import onnx

    model = onnx.load(exported['onnx'].path)
    tensor = next(one for one in model.graph.initializer if one.name.startswith(layer))
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.5, tensor.name))
    path = folder / 'model.onnx'
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize('name', [name for name in ('onnx', 'openvino', 'mnn') if name in QUICK])
def test_the_first_layer_that_differs_is_named(name, exported, loaded, tmp_path):
    import onnx

    path = exported['onnx'].path
    layers = [one.name for one in onnx.load(path).graph.initializer if one.name.endswith('.weight')]
    layer = next(one for one in layers if one.startswith('stages.2')).removesuffix('.weight')
    wrong = perturbed(exported, tmp_path, layer)
    if name != 'onnx':
        by_name(name).convert(wrong, wrong.with_suffix(by_name(name).suffix), {'images': {}})
        wrong = wrong.with_suffix(by_name(name).suffix)
    deployed = deploy(loaded)
    inputs = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)
    from distill.engines import Names

    told = first_difference(by_name(name), wrong, deployed.network, inputs, Names(('images',), ('logits',)))
    told = told.removeprefix('the first of its layers that differs is ')
    assert told.startswith(f"'{layer}'") or (name == 'mnn' and f"mnn does not tell of '{layer}'" in told)


def test_what_differs_is_not_left_behind(loaded, tmp_path):
    with pytest.raises(
        ExportError, match=r'onnx: onnx differs from the model by .* and 1e-12 is allowed; .*written: no'
    ):
        distill.export_model(loaded, tmp_path, 'onnx', tolerance=1e-12, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_agreement_counts_ties():
    expected = np.array([[1.0, 1.00001, 0.0], [3.0, 0.0, 0.0]])
    assert top1_agreement(np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), expected) == 0.5
    found = compare([np.array([[1.0, 2.0]])], [np.array([[1.0, 4.0]])], classifies=True)
    assert (found.max_difference, found.mean_difference, found.agreement) == (0.5, 0.25, 1.0)
    assert compare([np.array([np.nan])], [np.ones(1)], classifies=False).max_difference == float('inf')
    with pytest.raises(ValueError, match='its outputs have the shapes'):
        compare([np.ones((1, 3))], [np.ones((1, 2))], classifies=True)


def test_mistakes_are_one_line(exported, loaded, tmp_path):
    path = exported['onnx'].path
    with pytest.raises(ValueError, match='is exported already; give the model that it was made of'):
        distill.export_model(path, tmp_path, progress=False)
    with pytest.raises(ValueError, match=r"engine 'tvm' is unknown; choose from onnx, openvino"):
        distill.export_model(loaded, tmp_path, ['tvm'], progress=False)
    sources = [Source.parse(str(path)), Source.parse('resnet18')]
    with pytest.raises(ValueError, match='has no gradients and no stages to look into; give the model'):
        check_explanation(sources, path.parent, tmp_path, 1, 1, 0)
    other = tmp_path / 'other.onnx'
    other.write_bytes(path.read_bytes() + b'\x00')
    Manifest.path_beside(other).write_text(Manifest.path_beside(path).read_text())
    with pytest.raises(ValueError, match='it is damaged or of another model; export it again'):
        load_run(str(other), 'cpu')
    (tmp_path / 'none').mkdir()
    with pytest.raises(ValueError, match='holds no images; give a folder with images, or leave it out'):
        sample(tmp_path / 'none', 4, (8, 8), {})
