"""int8 and half precision of written artefacts: what the file holds, which layers it harms, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from distill.base.records import EXTRA_KINDS, KINDS
from distill.engines import Names, by_name, by_suffix
from distill.engines.artefact import Manifest, artefact_sha256, caution
from distill.engines.installed import missing_modules
from distill.export.quantise.artefact import Options, default_out, quantise
from distill.export.quantise.calibration import read_calibration
from distill.export.quantise.quantiser import Operation, off_the_path
from distill.export.quantise.sensitivity import fewest_kept

SIZE_PX, CLASSES = 32, ['a', 'b', 'c', 'd']
MISSING = {name: by_name(name).missing() for name in ('onnx', 'openvino', 'mnn')}
MISSING['openvino'] = MISSING['openvino'] or missing_modules('nncf', 'nncf')

pytestmark = pytest.mark.skipif(bool(MISSING['onnx']), reason=f'onnx needs {MISSING["onnx"]}')
needs_openvino = pytest.mark.skipif(bool(MISSING['openvino']), reason=f'openvino needs {MISSING["openvino"]}')
needs_mnn = pytest.mark.skipif(bool(MISSING['mnn']), reason=f'mnn needs {MISSING["mnn"]}')


def network() -> nn.Module:
    """Convolutions, and between two of them maps of which one channel is thousands of times as large as the others."""
    torch.manual_seed(0)
    model = nn.Module()
    model.stem = nn.Conv2d(3, 16, 3, stride=4)
    model.blocks = nn.Sequential(nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 8, 1))
    model.head = nn.Linear(8, len(CLASSES))
    with torch.no_grad():
        model.stem.bias[5] = -3000  # The activation after it cuts this off, so that it widens no range.
        model.blocks[0].weight[3] *= 3000
        model.blocks[1].weight[:, 3] /= 3000
        model.head.weight *= 30
    model.forward = lambda images: model.head(model.blocks(model.stem(images).relu()).relu().mean((2, 3)))
    return model.eval()


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """fp32 artefacts, and images of the network's own classes in class folders."""
    folder = tmp_path_factory.mktemp('quantise')
    model, rng = network(), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 1, 1, 3)) * rng.random((60, SIZE_PX, SIZE_PX, 1)) ** rng.uniform(0.1, 2)
    pixels = pixels.astype(np.uint8)
    with torch.no_grad():
        shown = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
        model.head.bias -= model(shown).mean(0)  # As many images of each class, about.
        labels = model(shown).argmax(1).tolist()
    for index, label in enumerate(labels):
        (folder / 'images' / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[index]).save(folder / 'images' / CLASSES[label] / f'{index}.png')
    for engine in (by_name(name) for name in ('onnx', 'openvino') if MISSING[name] is None):
        path = folder / f'net{engine.suffix}'
        engine.write(model, (shown[:2],), path, Names(('images',), ('logits',)), {'images': {0: 'batch'}})
        manifest(engine.name, path).write(path)
    return folder


def manifest(engine: str, path: Path) -> Manifest:
    half = [0.5, 0.5, 0.5]
    return Manifest(
        engine, by_name(engine).version(), artefact_sha256(path), 'net', 'net', None, [], 'classification',
        [SIZE_PX, SIZE_PX], ['batch'], None, 'float32', half, half, 1.0, 'center', 'bicubic', CLASSES, ['logits'],
    )  # fmt: skip


def scales(path: Path) -> dict[str, int]:
    """Weights of an ONNX file that are dequantised, and how many scales each has."""
    import onnx

    graph = onnx.load(path).graph
    count = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    return {
        node.input[0].removesuffix('.weight_quantized'): count[node.input[1]]
        for node in graph.node
        if node.op_type == 'DequantizeLinear' and node.input[0].endswith('.weight_quantized')
    }


def test_weights_have_a_scale_for_each_channel_and_kept_layers_have_none(folder):
    out = folder / 'kept.onnx'
    found = quantise(folder / 'net.onnx', out, Options(calibration=folder / 'images', keep_fp32=['blocks', 'head']))
    assert scales(out) == {'stem': 16}
    assert found.kept_in_fp32 == ['blocks.0', 'blocks.1', 'blocks.2', 'head']
    quantise(folder / 'net.onnx', out, Options(calibration=folder / 'images'))
    assert scales(out) == {'stem': 16, 'blocks.0': 16, 'blocks.1': 16, 'blocks.2': 8, 'head': 4}
    read = Manifest.read(out)
    assert (read.precision, read.kept_in_fp32, read.calibration['images']) == ('int8', [], 60)
    assert read.details['quantised']['fp32_sha256'] == artefact_sha256(folder / 'net.onnx')


@pytest.mark.parametrize(
    ('suffix', 'harmed'),
    [('.onnx', ['blocks.0', 'blocks.1']), pytest.param('.xml', ['blocks.1'], marks=needs_openvino)],
)
def test_the_layers_that_int8_harms_are_found_and_kept(folder, suffix, harmed):
    """ONNX Runtime quantises the outputs of a layer with it, OpenVINO the inputs only."""
    path, images = folder / f'net{suffix}', folder / 'images'
    plain = quantise(path, folder / f'all{suffix}', Options(calibration=images, images=20, threads=1))
    options = Options(calibration=images, images=20, keep=len(harmed), threads=1)
    kept = quantise(path, folder / f'keep{suffix}', options)
    assert kept.kept_in_fp32 == harmed
    assert kept.details['quantised']['noise'] < plain.details['quantised']['noise'] / 10
    sensitivities = kept.details['quantised']['sensitivities']
    assert set(sensitivities) == {'stem', 'blocks.0', 'blocks.1', 'blocks.2', 'head'}
    assert list(sensitivities.values()) == sorted(sensitivities.values(), reverse=True)
    assert sensitivities['stem'] < 0.01  # Its values that the activation cuts off are not in its range.


def test_an_accuracy_drop_keeps_the_fewest_layers(folder):
    images = folder / 'images'
    options = Options(calibration=images, images=20, accuracy_drop=3.0, labelled=images, threads=1)
    found = quantise(folder / 'net.onnx', folder / 'held.onnx', options)
    tried = {int(count): pct for count, pct in found.details['quantised']['tried'].items()}
    assert found.details['quantised']['accuracy_pct']['fp32'] == 100  # The labels are the network's own.
    count = len(found.kept_in_fp32)
    assert count >= 1
    assert tried[count] >= 97 > tried[count - 1]


def test_the_fewest_that_hold_a_limit():
    drops, asked = [9, 8, 7, 5, 4, 2, 1, 0, 0, 0], []

    def drop_of(count: int) -> float:
        asked.append(count)
        return drops[count]

    assert fewest_kept(len(drops), drop_of, 2.0) == 5
    assert len(asked) == len(set(asked))
    assert fewest_kept(len(drops), lambda count: drops[count], 9) == 0
    with pytest.raises(ValueError, match=r'no int8 artefact loses 1\.0 points or less'):
        fewest_kept(4, lambda count: 5.0, 1.0)


def test_what_a_detector_computes_with_coordinates_stays_in_fp32():
    made_of = {
        'scale': ('Div', 'images'),
        'conv': ('Conv', 'scale'),
        'deltas': ('Conv', 'conv'),
        'decode': ('Mul', 'deltas', 'anchors'),
        'best': ('TopK', 'decode'),
        'regions': ('Concat', 'best'),
        'pool': ('RoiAlign', 'conv', 'regions'),
        'rows': ('Gather', 'pool', 'order'),
        'order': ('CumSum', 'regions'),
        'both': ('Where', 'order', 'rows', 'pool'),
        'linear': ('Gemm', 'both'),
        'scores': ('Softmax', 'linear'),
    }
    operations = {name: Operation(kind, tuple(inputs)) for name, (kind, *inputs) in made_of.items()}
    off = off_the_path(operations, ['conv', 'deltas', 'linear'])
    assert off == ['decode', 'best', 'regions', 'order', 'scores']


def test_shifted_images_are_of_kinds_that_the_benchmark_does_not_hold(folder):
    read = {
        shift: read_calibration(folder / 'images', manifest('onnx', folder / 'net.onnx'), 20, shift, seed=3)
        for shift in ('clean', 'shifted', 'both')
    }
    changed = {shift: (one.images != read['clean'].images).any((1, 2, 3)) for shift, one in read.items()}
    assert changed['both'][::2].sum() > 5
    assert not changed['both'][1::2].any()
    assert changed['shifted'][1::2].sum() > 5
    kinds = {cell.rpartition(' ')[0] for cell in read['shifted'].about['cells']}
    assert kinds <= set(EXTRA_KINDS)
    assert not kinds & set(KINDS)
    again = read_calibration(folder / 'images', manifest('onnx', folder / 'net.onnx'), 20, 'shifted', seed=3)
    np.testing.assert_array_equal(again.images, read['shifted'].images)


@pytest.mark.parametrize(
    ('suffix', 'precision'),
    [('.onnx', 'fp16'), *(pytest.param('.xml', one, marks=needs_openvino) for one in ('fp16', 'bf16'))],
)
def test_half_precision(folder, suffix, precision):
    path = folder / f'net{suffix}'
    out = default_out(path, precision)
    found = quantise(path, out, Options(precision))
    assert found.precision == Manifest.read(out).precision == precision
    images = np.random.default_rng(0).standard_normal((3, 3, SIZE_PX, SIZE_PX), dtype=np.float32)
    expected, logits = (by_suffix(one).open(one, 1).run(images)[0] for one in (path, out))
    error = np.abs(logits - expected).max() / np.abs(expected).max()
    assert error < 0.05
    if suffix == '.xml' and precision == 'fp16':
        weights = [one.with_suffix('.bin').stat().st_size for one in (path, out)]
        assert weights[1] < 0.6 * weights[0]


@needs_mnn
def test_mnn_quantises_everything_at_one_size(folder):
    engine, path = by_name('mnn'), folder / 'net.mnn'
    axes = {'images': {0: 'batch', 2: 'height', 3: 'width'}}
    example = torch.rand(2, 3, SIZE_PX, SIZE_PX + 4)
    # Without the layer that no int8 fits, which MNN cannot leave out.
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
    ).eval()
    engine.write(model, (example,), path, Names(('images',), ('logits',)), axes)
    manifest('mnn', path).write(path)
    found = quantise(path, folder / 'int8.mnn', Options(calibration=folder / 'images', threads=1))
    assert found.dynamic == ['batch']
    assert found.details['quantised']['noise'] < 0.1
    images = np.random.default_rng(0).standard_normal((3, 3, SIZE_PX, SIZE_PX), dtype=np.float32)
    session = engine.open(folder / 'int8.mnn', 1)
    whole = session.run(images)[0]
    np.testing.assert_allclose(whole, np.concatenate([session.run(one[None])[0] for one in images]), atol=1e-5)
    with pytest.raises(ValueError, match='mnn quantises all layers or none'):
        quantise(path, folder / 'x.mnn', Options(calibration=folder / 'images', keep=1))


def test_mistakes_are_one_line_and_leave_no_file(folder, tmp_path):
    path, out, images = folder / 'net.onnx', tmp_path / 'out.onnx', folder / 'images'
    (tmp_path / 'none').mkdir()
    (tmp_path / 'one').mkdir()
    shutil.copy(next(images.rglob('*.png')), tmp_path / 'one')
    shutil.copy(path, tmp_path / 'alone.onnx')
    int8 = folder / 'is.onnx'
    quantise(path, int8, Options(calibration=images, images=2))
    cases = [
        (path, Options(), 'give a calibration folder'),
        (path, Options(calibration=tmp_path / 'none'), 'has no image; give one of 2 or more'),
        (path, Options(calibration=tmp_path / 'one'), 'has one image; give one of 2 or more'),
        (path, Options(calibration=images, images=1), '1 calibration images say nothing'),
        (path, Options(calibration=images, keep_fp32=['neck']), "layer 'neck' is unknown; choose from stem, blocks.0"),
        (path, Options(calibration=images, keep=5), 'nothing would be in int8: the network has 5 layers'),
        (path, Options(calibration=images, keep_fp32=['blocks'], keep=2), '3 are named to stay in fp32 and 2 more are'),
        (path, Options(calibration=images, keep=1, accuracy_drop=1.0), 'give one of them'),
        (path, Options(calibration=images, accuracy_drop=1.0), 'give their folder'),
        (path, Options(calibration=images, accuracy_drop=1.0, config='x.py'), 'this file is of classification; leave'),
        (path, Options('bf16'), 'which has no bf16 for written files; choose from openvino'),
        (path, Options('fp16', keep=1), 'not beside fp16'),
        (int8, Options(calibration=images), 'is int8 already'),
        (tmp_path / 'alone.onnx', Options(calibration=images), 'has no manifest'),
    ]
    for source, options, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            quantise(source, out, options)
        assert '\n' not in str(caught.value)
    assert not out.exists()
    assert not Manifest.path_beside(out).exists()


@pytest.mark.parametrize(('machine', 'flags', 'reduced'), [('x86_64', 'avx2 fma', True), ('AMD64', 'avx_vnni', False),
                                                           ('aarch64', 'asimddp', False)])  # fmt: skip
def test_a_processor_without_vnni_gets_sums_that_fit(folder, tmp_path, monkeypatch, machine, flags, reduced):
    monkeypatch.setattr('distill.base.processor.processor', lambda: {'instruction_sets': flags.split()})
    monkeypatch.setattr('platform.machine', lambda: machine)
    options, out = Options(calibration=folder / 'images', images=20), tmp_path / 'net.onnx'
    found = quantise(folder / 'net.onnx', out, options)
    assert found.details['quantised']['reduce_range'] == reduced
    assert ('fit into 16 bits' in found.steps[-1]) == reduced
    asked = quantise(folder / 'net.onnx', out, replace(options, reduce_range=not reduced))
    assert asked.details['quantised']['reduce_range'] != reduced
    assert [caution(one) is None for one in (found, asked)] == [True, not reduced]
    older = replace(found, details={'quantised': {'method': 'of an older version'}})
    assert (caution(older) is None) == (not reduced)
    assert caution(replace(older, engine='mnn')) is None


@needs_openvino
def test_openvino_corrects_biases(folder, tmp_path):
    import openvino

    def biases(path: Path) -> list[np.ndarray]:
        model = openvino.Core().read_model(path)
        passes = openvino.passes.Manager()
        passes.register_pass(openvino.passes.ConstantFolding())
        passes.run_passes(model)
        sums = [one for one in model.get_ordered_ops() if one.get_type_name() == 'Add']
        found = [one.input_value(1).get_node() for one in sums]
        return [one.data.ravel() for one in found if one.get_type_name() == 'Constant' and one.data.size > 1]

    quantise(folder / 'net.xml', tmp_path / 'net.xml', Options(calibration=folder / 'images'))
    before, after = biases(folder / 'net.xml'), biases(tmp_path / 'net.xml')
    assert [one.shape for one in before] == [one.shape for one in after]
    assert sum(not np.allclose(one, other, atol=1e-7) for one, other in zip(before, after, strict=True)) >= 3


@needs_mnn
def test_mnn_forgets_the_batches_before(folder, tmp_path):
    """A module of int8 that has seen one image computed something else of sixteen."""
    import timm

    import backbones  # noqa: F401

    torch.manual_seed(0)
    model = timm.create_model('wide_resnet28_10', depth=10, widen_factor=1, stem_stride=2, num_classes=4).eval()
    example = (torch.rand(2, 3, SIZE_PX, SIZE_PX),)
    by_name('mnn').write(
        model, example, tmp_path / 'net.mnn', Names(('images',), ('logits',)), {'images': {0: 'batch'}}
    )
    manifest('mnn', tmp_path / 'net.mnn').write(tmp_path / 'net.mnn')
    quantise(tmp_path / 'net.mnn', tmp_path / 'int8.mnn', Options(calibration=folder / 'images'))
    calibration = read_calibration(folder / 'images', Manifest.read(tmp_path / 'net.mnn'))
    (images,) = calibration.inputs(Manifest.read(tmp_path / 'net.mnn'), 60)
    expected = by_suffix('x.mnn').open(tmp_path / 'int8.mnn', 1).run(images[:16])[0]
    session = by_suffix('x.mnn').open(tmp_path / 'int8.mnn', 1)
    for count in (1, 16, 7, 16):
        found = session.run(images[:count])[0]
        assert np.allclose(found, expected[:count], atol=1e-3 * abs(expected).max())
