"""Wide depthwise convolutions of this project against torch's own, over the shapes of its models."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from backbones.layers.depthwise import weight_gradient
from backbones.layers.depthwise.cpu_ways import WAYS, Way, choose
from backbones.layers.depthwise.tiling import Geometry
from distill.base.files import write_json

LAYOUTS = {'planes': torch.contiguous_format, 'channels_last': torch.channels_last}
SLICE = 4
"""Channels that are compared with torch in float64 on the CPU: the first half and the last."""


@dataclass(frozen=True)
class Case:
    """One convolution of a model.

    Attributes:
        name: What it is.
        chs: Channels.
        side: Side of the input in pixels.
        kernel: Side of the kernel.
        stride: Stride.
        batch: Images.
        dtype: Type of images and gradients.
    """

    name: str
    chs: int
    side: int
    kernel: int
    stride: int = 1
    batch: int = 256
    dtype: torch.dtype = torch.bfloat16

    @property
    def geometry(self) -> Geometry:
        """The convolution's geometry."""
        pads = self.kernel // 2
        square = [(each, each) for each in (self.side, self.kernel, self.stride, pads, 1)]
        return Geometry(*square)

    def __str__(self) -> str:
        size = f'{self.batch}×{self.chs}×{self.side}² k{self.kernel}'
        return f'{size} s{self.stride}' * (self.stride > 1) or size

    def draw(self, device: torch.device, memory_format: torch.memory_format) -> tuple[Tensor, Tensor, Tensor]:
        """Fresh images, gradients of the output, and fp32 kernels."""

        def maps(height: int, width: int) -> Tensor:
            drawn = torch.randn(self.batch, self.chs, height, width, device=device, dtype=self.dtype)
            return drawn.to(memory_format=memory_format)

        weight = torch.randn(self.chs, 1, self.kernel, self.kernel, device=device) / self.kernel
        return maps(*self.geometry.input), maps(*self.geometry.output), weight


TARGET = Case('Robust-ResNet-DW-S, stage 3', 384, 14, 11)
CASES = (
    TARGET,
    Case('Robust-ResNet-DW-S, stage 4', 768, 7, 11),
    Case('Robust-ResNet-DW-S, stage 4, first block', 768, 14, 11, 2),
    Case('Robust-ResNet-Inverted-S, stage 3', 1536, 14, 7),
    Case('ConvNeXt-T, stage 1', 96, 56, 7),
    Case('ConvNeXt-T, stage 2', 192, 28, 7),
    Case('stage 3 in fp32', 384, 14, 11, 1, 64, torch.float32),
    Case('stage 3 with a kernel of 13', 384, 14, 13),
    Case('stage 3 with a kernel of 5', 384, 14, 5),
    Case('a detector, stage 3', 384, 64, 11, 1, 2),
    Case('RepLKNet-like', 384, 28, 31, 1, 64),
)


def benchmark_depthwise(device: str, seconds: float, out: Path | None, progress: Callable[[str], None] = str) -> dict:
    """Time output, input gradient and weight gradient of each case, and compare them with torch in float64.

    Args:
        device: ``cuda`` or ``cpu``. On a CPU only the weight gradient is this project's own.
        seconds: What is not measured by then is left out, and named.
        out: File of the result, written after each case; None for none.
        progress: Called with what comes next.

    Returns:
        ``machine``, ``rows`` and ``left_out``; on CUDA also ``target``, ``step`` and ``compile_s``.
    """
    chosen = torch.device(device)
    if chosen.type == 'cuda':
        from distill.benchmarks.depthwise_cuda import benchmark_cuda

        return benchmark_cuda(chosen, seconds, out, progress)
    return benchmark_cpu(CASES, seconds, out, progress)


def benchmark_cpu(
    cases: Sequence[Case], seconds: float, out: Path | None, progress: Callable[[str], None], batch: int = 16
) -> dict:
    """The weight gradient in fp32 on a CPU, in all ways in turns, with ``batch`` images; ours is the way chosen."""
    end = time.monotonic() + seconds
    result: dict = {'machine': machine(torch.device('cpu')), 'rows': [], 'left_out': []}
    for case in dict.fromkeys(Case(each.name, each.chs, each.side, each.kernel, each.stride, batch, torch.float32)
                              for each in cases if each.dtype != torch.float32):  # fmt: skip
        for layout, memory_format in LAYOUTS.items():
            if time.monotonic() > end:
                result['left_out'].append(f'{case} {layout}')
                continue
            progress(f'{case} {layout}')
            x, grad, weight = case.draw(torch.device('cpu'), memory_format)
            ways = {way: _cpu_pass(way, x, grad, weight, case) for way in WAYS}
            exact = exact_pass('weight', x, grad, weight, case)
            geometry = case.geometry
            plan = geometry.stride, geometry.padding, geometry.dilation
            best = choose(x, grad, geometry.kernel, plan, lambda way, ways=ways: ways[way]())
            times, found = _in_turns(ways, end)
            errors = {way: slice_error('weight', found[way], exact) for way in ways}
            result['rows'].append(
                {
                    'case': str(case), 'name': case.name, 'layout': layout, 'pass': 'weight', 'dtype': 'float32',
                    'best': best, 'ms': {**times, 'ours': times[best]}, 'speedup': times['torch'] / times[best],
                    'error': {**errors, 'ours': errors[best]},
                }
            )  # fmt: skip
            if out is not None:
                write_json(out, result)
    if out is not None:
        write_json(out, result)
    return result


def _cpu_pass(way: Way, x: Tensor, grad: Tensor, weight: Tensor, case: Case) -> Callable[[], Tensor]:
    if way == 'torch':
        return torch_pass('weight', x, grad, weight, case)
    geometry = case.geometry
    plan = geometry.stride, geometry.padding, geometry.dilation
    return lambda: weight_gradient(x, grad, geometry.kernel, *plan, way == 'padded')


def _in_turns(ways: dict[str, Callable[[], Tensor]], end: float, repeats: int = 5):
    times: dict[str, list[float]] = {way: [] for way in ways}
    found = {way: run() for way, run in ways.items()}
    for _ in range(repeats):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            times[way].append(1e3 * (time.perf_counter() - start))
        if time.monotonic() > end:
            break
    return {way: statistics.median(each) for way, each in times.items()}, found


def torch_pass(name: str, x: Tensor, grad: Tensor, weight: Tensor, case: Case) -> Callable[[], Tensor]:
    """One pass as torch computes it: ``forward``, ``input`` or ``weight``."""
    geometry, weight = case.geometry, weight.to(x.dtype)
    plan = geometry.stride, geometry.padding, geometry.dilation
    if name == 'forward':
        return lambda: torch.conv2d(x, weight, None, *plan, case.chs)
    wanted = [name == 'input', name == 'weight', False]
    place = wanted.index(True)
    return lambda: torch.ops.aten.convolution_backward(
        grad, x, weight, None, *plan, False, [0, 0], case.chs, wanted
    )[place]  # fmt: skip


def exact_pass(name: str, x: Tensor, grad: Tensor, weight: Tensor, case: Case) -> Tensor:
    """The same in float64 on the CPU, for some channels; of images only as many as say something."""
    images = len(x) if name == 'weight' else 8
    few = Case(case.name, SLICE, case.side, case.kernel, case.stride, images, torch.double)
    parts = [_some(each[:images]).cpu().double().contiguous() for each in (x, grad)]
    rounded = torch.cat([weight[: SLICE // 2], weight[-SLICE // 2 :]]).to(x.dtype).cpu().double()
    return torch_pass(name, *parts, rounded, few)()


def slice_error(name: str, found: Tensor, exact: Tensor) -> float:
    """‖found − exact‖ / ‖exact‖ over the channels of `exact_pass`; NaN if anything in `found` is not finite."""
    if not bool(found.isfinite().all()):
        return float('nan')
    # The kernels' gradient has its channels first.
    part = _some(found.transpose(0, 1)).transpose(0, 1) if name == 'weight' else _some(found[: len(exact)])
    return float((part.cpu().double() - exact).norm() / exact.norm())


def _some(x: Tensor) -> Tensor:
    return torch.cat([x[:, : SLICE // 2], x[:, -SLICE // 2 :]], dim=1)


def machine(device: torch.device) -> dict:
    """What the numbers depend on."""
    known = {'torch': torch.__version__, 'python': platform.python_version()}
    if device.type == 'cuda':
        import triton

        return known | {
            'device': torch.cuda.get_device_name(device),
            'cudnn': torch.backends.cudnn.version(),
            'triton': triton.__version__,
        }
    return known | {
        'device': platform.processor() or platform.machine(),
        'instruction_set': torch.backends.cpu.get_cpu_capability(),
        'threads': torch.get_num_threads(),
    }


def table(result: dict) -> str:
    """Format the result of `benchmark_depthwise` for people."""
    head = ', '.join(f'{key} {value}' for key, value in result['machine'].items())
    lines = [head, f'{"case":<22} {"layout":<13} {"pass":<8} {"torch":>8} {"ours":>8} {"ratio":>6} {"error":>8}  way']
    for row in result['rows']:
        ms, error = row['ms'], row['error']
        peer = f'{ms["torch"]:.3f}' if ms['torch'] is not None else '—'
        ours = (f'{ms["ours"]:.3f}', f'{row["speedup"]:.2f}', f'{error["ours"]:.0e}') if 'ours' in ms else ('—',) * 3
        expected = f'expected {row["expected_ms"]["matrix"]:.3f}' if 'expected_ms' in row else ''
        lines.append(
            f'{row["case"]:<22} {row["layout"]:<13} {row["pass"]:<8} {peer:>8} {ours[0]:>8} {ours[1]:>6} {ours[2]:>8}  '
            f'{row.get("best", "")}  {expected}'
        )
    for key in ('target', 'step'):
        lines += [f'{key} {name}: {value}' for name, value in result.get(key, {}).items()]
    lines += [f'failed: {each}' for each in result.get('failed', [])]
    if result['left_out']:
        lines.append(f'not reached in time: {", ".join(result["left_out"])}')
    return '\n'.join(lines)
