"""int8 weights of ONNX files: steps, sums that fit into 16 bits, and biases that keep the means."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from distill.engines import Names, by_name
from distill.engines.artefact import Manifest, artefact_sha256
from distill.export.quantise.artefact import Options, quantise
from distill.export.quantise.calibration import read_calibration
from distill.export.quantise.onnx_qdq import LAYERS
from distill.export.quantise.onnx_weights import Weight, correct_biases, moved_means, weights_of

SIZE_PX = 32
MISSING = by_name('onnx').missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f'onnx needs {MISSING}')


def test_no_sum_is_cut_off_and_steps_are_no_wider_than_that_needs():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((8, 6, 3, 3)).astype(np.float32)
    values[0, 0, 0, 0] = 100  # Alone it has all 8 bits.
    values[1, 2:4, 1, 1] = 100  # Neighbours of one sign have one less between them,
    values[2, 2:4, 1, 1] = 100, -100  # neighbours of two signs not,
    values[3, 3:5, 1, 1] = 100  # and those of two pairs neither.
    weight = Weight('conv', values, axis=0, is_product=True)
    steps = weight.steps(without_vnni=True)
    assert (100 / steps[:4]).round(2).tolist() == pytest.approx([127, 64, 127, 127], abs=2)
    whole = ((values + weight.error(steps)) / steps[:, None, None, None]).round().astype(int)
    pairs = whole.transpose(0, 2, 3, 1).reshape(8, -1, 2)
    assert abs(whole).max() == 127
    assert max(np.maximum(pairs, 0).sum(2).max(), np.maximum(-pairs, 0).sum(2).max()) <= 129  # 255 × 128.5 still fits.
    depthwise = Weight('depthwise', values, axis=0, is_product=False)
    assert np.array_equal(depthwise.steps(True), weight.steps(False))
    assert np.allclose(weight.steps(False), abs(values).max((1, 2, 3)) / 127)


class Layers(nn.Module):
    """Every kind of layer that has a weight and a bias, or none; large enough sums to be cut off without VNNI."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.depthwise = nn.Conv2d(16, 16, 7, padding=3, groups=16)
        self.grouped = nn.Conv2d(16, 32, 3, padding=2, dilation=2, groups=4)
        self.mix = nn.Linear(32, 32)
        self.head = nn.Linear(32, 4)
        with torch.no_grad():
            for layer in (self.stem, self.mix):
                layer.weight.uniform_(0.1, 0.11)
            self.head.weight *= 10

    def forward(self, images):
        maps = self.grouped(self.depthwise(self.stem(images + 1).relu()).relu()).relu()
        rows = self.mix(maps.flatten(2).transpose(1, 2)).relu()
        return self.head(rows.mean(1))


@pytest.fixture(scope='module')
def file(tmp_path_factory) -> Path:
    """An fp32 file of `Layers` with its manifest, and images beside it."""
    path, half = tmp_path_factory.mktemp('weights') / 'net.onnx', [0.5, 0.5, 0.5]
    by_name('onnx').write(Layers().eval(), (torch.rand(2, 3, SIZE_PX, SIZE_PX),), path, Names(('images',), ('logits',)),
                          {'images': {0: 'batch'}})  # fmt: skip
    Manifest(
        'onnx', by_name('onnx').version(), artefact_sha256(path), 'net', 'net', None, [], 'classification',
        [SIZE_PX, SIZE_PX], ['batch'], None, 'float32', half, half, 1.0, 'center', 'bicubic', None, ['logits'],
    ).write(path)  # fmt: skip
    rng = np.random.default_rng(0)
    for index in range(20):
        pixels = rng.integers(0, 256, (SIZE_PX, SIZE_PX, 3), np.uint8)
        Image.fromarray(pixels).save(path.parent / f'{index}.png')
    return path


def shown(path: Path) -> np.ndarray:
    return next(read_calibration(path.parent, Manifest.read(path)).inputs(Manifest.read(path), 20))


def test_integers_compute_what_their_file_says(file, tmp_path):
    """In fp32, as the file is written, and in integers, as the processor computes it."""
    import onnxruntime

    quantise(file, tmp_path / 'int8.onnx', Options(calibration=file.parent, reduce_range=True))
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    as_written, as_computed = (
        onnxruntime.InferenceSession(tmp_path / 'int8.onnx', options, providers=['CPUExecutionProvider']).run(
            None, {'images': shown(file)}
        )[0]
        for options in (plain, onnxruntime.SessionOptions())
    )
    assert abs(as_written - as_computed).max() < as_written.std() / 20


def test_what_rounding_moves_is_taken_from_each_bias(file):
    import onnx
    from onnx.numpy_helper import to_array

    model = onnx.load(file)
    weights = weights_of(model.graph, [node.name for node in model.graph.node if node.op_type in LAYERS])
    moved = moved_means(file, weights, True, [{'images': shown(file)}])
    net, by_shape = Layers().eval(), {one.values.shape: name for name, one in weights.items()}
    depthwise, mix = (by_shape[shape] for shape in ((16, 1, 7, 7), (32, 32)))
    assert len(moved) == len(weights) == 5

    def rounded(layer: nn.Module, name: str) -> nn.Module:
        error = torch.from_numpy(weights[name].error(weights[name].steps(True)))
        twin = copy.deepcopy(layer)
        twin.weight += error if error.ndim > 2 else error.T  # A product has its weight the other way round.
        return twin

    with torch.no_grad():
        maps = net.stem(torch.from_numpy(shown(file)) + 1).relu()
        expected = (rounded(net.depthwise, depthwise)(maps) - net.depthwise(maps)).mean((0, 2, 3))
        assert np.allclose(moved[depthwise], expected, atol=1e-6)
        rows = net.grouped(net.depthwise(maps).relu()).relu().flatten(2).transpose(1, 2)
        expected = (rounded(net.mix, mix)(rows) - net.mix(rows)).mean((0, 1))
        assert np.allclose(moved[mix], expected, atol=1e-6)

    correct_biases(model.graph, moved)
    biases = {one.name.removesuffix(' bias'): to_array(one) for one in model.graph.initializer if ' bias' in one.name}
    assert biases.keys() == moved.keys()
    for name, layer in ((depthwise, net.depthwise), (mix, net.mix)):
        assert np.allclose(biases[name], layer.bias.detach().numpy() - moved[name], atol=1e-7)
