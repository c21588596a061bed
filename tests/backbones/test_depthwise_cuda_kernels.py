"""The Triton kernels against torch in float64, in Triton's interpreter on the CPU; on CUDA by `benchmark depthwise`."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from backbones.layers.depthwise import launch
from backbones.layers.depthwise.choice import TORCH, by_rule, candidates, choose
from backbones.layers.depthwise.launch import Config
from backbones.layers.depthwise.module import DepthwiseConv2d
from backbones.layers.depthwise.operators import depthwise_conv2d
from backbones.layers.depthwise.tiling import Geometry

FORMATS = {'planes': torch.contiguous_format, 'channels_last': torch.channels_last}
# fp32 sums of values rounded to bf16 (8 bits) or fp16 (11 bits) on the way in and out.
TOLERANCES = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 6e-3}
pytestmark = pytest.mark.skipif(not launch.HAS_TRITON, reason='Triton is not installed')


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.detach().double() - expected.detach()).norm() / expected.detach().norm())


if os.environ.get('TRITON_INTERPRET') == '1':
    # Batch, channels, input, kernel, stride, padding, dilation; blocks of the products.
    SHAPES = [
        (3, 2, (14, 14), (11, 11), (1, 1), (5, 5), (1, 1), (16, 128, 64)),
        (2, 3, (7, 6), (7, 5), (2, 1), (3, 2), (1, 1), (16, 32, 32)),
        (2, 1, (15, 40), (5, 7), (2, 2), (2, 3), (1, 1), (16, 128, 128)),
        (1, 2, (35, 37), (5, 3), (1, 2), (4, 2), (2, 3), (16, 128, 256)),
        (65, 1, (9, 9), (3, 3), (1, 1), (1, 1), (1, 1), (64, 64, 32)),
        (2, 2, (12, 12), (4, 4), (3, 3), (1, 1), (1, 1), (64, 64, 64)),
        (66, 2, (7, 7), (13, 13), (2, 2), (6, 6), (1, 1), (64, 16, 64)),
    ]

    @pytest.fixture(autouse=True)
    def _poisoned():
        """New tensors hold NaN."""
        torch.use_deterministic_algorithms(True)
        yield
        torch.use_deterministic_algorithms(False)

    @pytest.mark.parametrize(
        ('shape', 'dtype', 'layout'),
        [
            *((shape, torch.bfloat16, 'planes') for shape in SHAPES),
            (SHAPES[1], torch.float32, 'channels_last'),
            (SHAPES[3], torch.bfloat16, 'channels_last'),
            (SHAPES[2], torch.float32, 'planes'),
            (SHAPES[-1], torch.float16, 'channels_last'),
        ],
        ids=str,
    )
    def test_output_and_gradients_are_those_of_torch(shape, dtype, layout):
        batch, chs, *plane, blocks = shape
        geometry = Geometry(*plane)
        torch.manual_seed(0)

        def draw(*size):
            drawn = torch.randn(size).to(dtype)
            return drawn.to(memory_format=FORMATS[layout]) if len(size) == 4 else drawn

        # The kernels round fp32 weights to the type of the images; the interpreter would cut them off.
        x, weight, bias = draw(batch, chs, *geometry.input), draw(chs, 1, *geometry.kernel).float(), draw(chs)
        exact_x, exact_weight = x.double().requires_grad_(), weight.double().requires_grad_()
        expected = F.conv2d(
            exact_x, exact_weight, bias.double(), geometry.stride, geometry.padding, geometry.dilation, chs
        )
        assert tuple(expected.shape[2:]) == geometry.output
        grad = draw(*expected.shape)
        expected_grads = torch.autograd.grad(expected, [exact_x, exact_weight], grad.double())

        ways = [Config('matrix', blocks)]
        if layout == 'channels_last' and chs > 1 and max(geometry.kernel) <= 7:
            ways.append(Config('direct', (256, 2)))
        for way in ways:
            output = launch.convolve(x, weight, bias, geometry, False, way)
            grad_x = launch.convolve(grad, weight, None, geometry, True, way)
            assert output.dtype == grad_x.dtype == dtype
            assert output.is_contiguous(memory_format=FORMATS[layout])
            assert relative_error(output, expected) < TOLERANCES[dtype]
            assert relative_error(grad_x, expected_grads[0]) < TOLERANCES[dtype]
        grad_weight = launch.correlate(x, grad, geometry, torch.float32, Config('matrix', (blocks[1], 64, 16)))
        assert relative_error(grad_weight, expected_grads[1]) < 1e-6

    @pytest.mark.parametrize('layout', FORMATS)
    def test_the_operator_takes_them_and_its_gradients_are_those_of_torch(layout):
        torch.manual_seed(0)
        x = torch.randn(65, 2, 5, 6).bfloat16().to(memory_format=FORMATS[layout]).requires_grad_()
        weight = torch.randn(2, 1, 9, 9).bfloat16().float().requires_grad_()
        bias = torch.randn(2, requires_grad=True)
        output = depthwise_conv2d(x, weight, bias, [1, 1], [4, 4], [1, 1])
        grad = torch.randn_like(output)
        found = torch.autograd.grad(output, [x, weight, bias], grad)
        exact = [each.detach().double().requires_grad_() for each in (x, weight, bias)]
        expected_output = F.conv2d(*exact, padding=4, groups=2)
        expected = torch.autograd.grad(expected_output, exact, grad.double())
        assert [each.dtype for each in found] == [torch.bfloat16, torch.float32, torch.float32]
        # torch's own way would round the gradient of the kernels to 8 bits.
        tolerances = (6e-3, 6e-3, 1e-6, 1e-6)
        for each, other, tolerance in zip([output, *found], [expected_output, *expected], tolerances, strict=True):
            assert relative_error(each, other) < tolerance

else:

    def test_in_the_interpreter():
        command = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-p', 'no:xdist', __file__]
        environment = dict(os.environ, TRITON_INTERPRET='1', OMP_NUM_THREADS='1')
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:]
        assert 'skipped' not in done.stdout

    @pytest.mark.parametrize(
        ('batch', 'side', 'kernel', 'dtype', 'layout', 'expected'),
        [
            (256, 14, 11, torch.bfloat16, 'planes', ['matrix', 'matrix', 'matrix']),
            (256, 7, 11, torch.float32, 'planes', ['matrix', 'matrix', 'matrix']),
            (2, 64, 11, torch.bfloat16, 'planes', ['matrix', 'matrix', 'matrix']),
            (256, 14, 5, torch.bfloat16, 'planes', ['matrix', 'matrix', 'matrix']),
            (256, 14, 11, torch.bfloat16, 'channels_last', ['matrix', 'matrix', 'matrix']),
            (2, 64, 11, torch.bfloat16, 'channels_last', ['direct', 'direct', 'matrix']),
            (64, 14, 11, torch.float32, 'channels_last', ['direct', 'direct', 'matrix']),
            (256, 14, 7, torch.bfloat16, 'channels_last', ['torch', 'torch', 'torch']),
            (256, 14, 3, torch.bfloat16, 'planes', ['torch', 'torch', 'torch']),
            (4, 14, 11, torch.bfloat16, 'planes', ['torch', 'torch', 'torch']),
        ],
    )
    def test_rules_take_what_was_fastest(batch, side, kernel, dtype, layout, expected):
        geometry = Geometry(*((each, each) for each in (side, kernel, 1, kernel // 2, 1)))
        x = torch.empty(batch, 384, side, side, dtype=dtype, device='meta').to(memory_format=FORMATS[layout])
        found = [by_rule(name, x, geometry) for name in ('forward', 'input', 'weight')]
        assert [config.way for config in found] == expected
        assert choose('forward', x, geometry, None) is TORCH  # Neither CUDA nor the interpreter.
        for name, config in zip(('forward', 'input', 'weight'), found, strict=True):
            assert config is TORCH or config in candidates(name, x, geometry)

    @pytest.mark.parametrize('kernel', [7, 11])
    @pytest.mark.parametrize('layout', FORMATS)
    def test_a_compiler_sees_one_graph(kernel, layout):
        layer = DepthwiseConv2d(4, 4, kernel, padding=kernel // 2, groups=4)
        x = torch.randn(2, 4, 9, 9).to(memory_format=FORMATS[layout])
        traced = torch.compile(lambda x: layer._on_cuda(x, layer.weight, layer.bias), backend='eager', fullgraph=True)
        assert relative_error(traced(x), layer(x)) < 1e-6

    @pytest.mark.parametrize('layout', FORMATS)
    def test_the_operator_is_registered_as_torch_wants_it(layout):
        x = torch.randn(2, 3, 7, 8).to(memory_format=FORMATS[layout]).requires_grad_()
        weight, bias = torch.randn(3, 1, 5, 5, requires_grad=True), torch.randn(3, requires_grad=True)
        for with_bias in (bias, None):
            torch.library.opcheck(depthwise_conv2d, (x, weight, with_bias, [2, 1], [2, 2], [1, 1]))
