"""The part of `distill.benchmarks.depthwise` that needs a CUDA device: every candidate of every pass, and a step."""

import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

import backbones.robust_resnet  # noqa: F401  registers the models
from backbones.layers.depthwise import launch, speed_up_depthwise
from backbones.layers.depthwise.choice import TORCH, by_rule, candidates, time_ms
from backbones.layers.depthwise.launch import Config
from distill.base.files import write_json
from distill.benchmarks.depthwise import CASES, LAYOUTS, TARGET, Case, exact_pass, machine, slice_error, torch_pass

PASSES = ('forward', 'input', 'weight')
ROTATED_BYTES = 200 << 20
"""Input sets hold this much together, so that no second-level cache holds them."""
STEP_SECONDS = 20
LARGEST_ERRORS = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-4}
"""Relative errors above which a kernel is wrong, and not timed."""
ASSUMED = dict(copy_bytes_per_s=3.0e12, matrix_flop_per_s=4.0e14, fma_flop_per_s=6.0e13)
"""What a card is expected to do, for the predictions: H100, its matrix units at half of their rate."""


def benchmark_cuda(device: torch.device, seconds: float, out: Path | None, progress: Callable[[str], None]) -> dict:
    """See `distill.benchmarks.depthwise.benchmark_depthwise`."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        return _benchmark(device, seconds, out, progress)
    finally:
        torch.backends.cudnn.benchmark = before


def _benchmark(device: torch.device, seconds: float, out: Path | None, progress: Callable[[str], None]) -> dict:
    end = time.monotonic() + seconds
    result: dict = {'machine': machine(device), 'assumed': ASSUMED, 'rows': [], 'left_out': [], 'failed': []}
    progress('compiling')
    start = time.monotonic()
    result['failed'] += compile_all(device, start + 0.4 * seconds)
    result['compile_s'] = time.monotonic() - start
    for case in CASES:
        if time.monotonic() > end:
            result['left_out'].append(str(case))
            continue
        progress(str(case))
        for layout in LAYOUTS:
            rows, failed = measure_case(case, layout, device, end)
            result['rows'] += rows
            result['failed'] += failed
        if case is TARGET:
            progress('layer and step')
            result['target'] = sum_up(result['rows'])
            if out is not None:
                write_json(out, result)
            try:
                result['target'] |= {f'layer ms, {layout}': time_layer(case, layout, device) for layout in LAYOUTS}
                result['step'] = measure_step(device, min(end, time.monotonic() + STEP_SECONDS))
            except Exception as error:  # The other cases are worth their time all the same.
                result['failed'].append(f'layer or step: {type(error).__name__} {str(error)[:500]}')
        if out is not None:
            write_json(out, result)
    if out is not None:
        write_json(out, result)
    return result


def compile_all(device: torch.device, end: float) -> list[str]:
    """Compile the kernels of all cases in processes of their own; returns what failed. Triton keeps them on disk."""
    jobs = [(case, name, config) for case in CASES for name in PASSES for config in _candidates(case, name)]
    workers = max(1, min(12, (os.cpu_count() or 2) - 2))
    failed = []
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context('spawn')) as pool:
        futures = {pool.submit(compile_one, *job, str(device)): job for job in jobs}
        try:
            for future in as_completed(futures, timeout=max(1.0, end - time.monotonic())):
                case, name, config = futures[future]
                error = future.exception() or future.result()
                if error:
                    failed.append(f'{case} {name} {config}: {error}')
        except TimeoutError:
            failed.append('not all kernels were compiled ahead')
            pool.shutdown(wait=False, cancel_futures=True)
    return failed


def _candidates(case: Case, name: str) -> list[Config]:
    empty = torch.empty(case.batch, case.chs, case.side, case.side, dtype=case.dtype, device='meta')
    empty = empty.to(memory_format=torch.channels_last)
    return candidates(name, empty, case.geometry) if launch.fits(empty, case.geometry, name == 'weight') else []


def compile_one(case: Case, name: str, config: Config, device: str) -> str:
    """Run one kernel once; returns its error, or nothing."""
    try:
        x, grad, weight = case.draw(torch.device(device), torch.channels_last)
        run_pass(name, x, grad, weight, case, config)
        torch.cuda.synchronize()
    except Exception as error:
        return f'{type(error).__name__}: {str(error)[:200]}'
    return ''


def run_pass(name: str, x: Tensor, grad: Tensor, weight: Tensor, case: Case, config: Config) -> Tensor:
    """One pass with one configuration."""
    if config == TORCH:
        return torch_pass(name, x, grad, weight, case)()
    if name == 'weight':
        return launch.correlate(x, grad, case.geometry, torch.float32, config)
    a = x if name == 'forward' else grad
    return launch.convolve(a, weight, None, case.geometry, name == 'input', config)


def measure_case(case: Case, layout: str, device: torch.device, end: float) -> tuple[list[dict], list[str]]:
    """A row for each pass, with time and error of torch and of each candidate; and what failed."""
    torch.manual_seed(0)
    first = case.draw(device, LAYOUTS[layout])
    sets = 1 + min(5, ROTATED_BYTES // (first[0].nbytes + first[1].nbytes))
    drawn = [first, *(case.draw(device, LAYOUTS[layout]) for _ in range(sets - 1))]
    rounded = {id(each[2]): (*each[:2], each[2].to(case.dtype)) for each in drawn}
    rows, failed = [], []
    for name in PASSES:
        exact = exact_pass(name, *first, case)
        times: dict[str, float] = {}
        errors: dict[str, float] = {}
        turn = itertools.cycle(drawn)

        def run(config: Config, name=name, turn=turn) -> Tensor:
            x, grad, weight = next(turn)
            # Under autocast torch's kernels are rounded once a step, not once a pass.
            return run_pass(name, *(rounded[id(weight)] if config == TORCH else (x, grad, weight)), case, config)

        fitting = launch.fits(first[0], case.geometry, name == 'weight')
        for config in [TORCH, *(candidates(name, first[0], case.geometry) if fitting else [])]:
            if times and time.monotonic() > end:
                break
            try:
                errors[str(config)] = error = checked_error(name, first, case, config, exact)
                if config != TORCH and not error < LARGEST_ERRORS[case.dtype]:  # NaN too.
                    failed.append(f'{case} {layout} {name} {config}: error {error}')
                    continue
                times[str(config)] = time_ms(run, config, repeats=9)
            except Exception as problem:
                failed.append(f'{case} {layout} {name} {config}: {type(problem).__name__} {str(problem)[:200]}')
        rows.append(_row(case, layout, name, times, errors, str(by_rule(name, first[0], case.geometry))))
    return rows, failed


def checked_error(name: str, inputs: tuple[Tensor, ...], case: Case, config: Config, exact: Tensor) -> float:
    """Relative error of a pass whose new tensors held NaN before; NaN too if a second run gives other bits."""
    if config == TORCH:
        return slice_error(name, run_pass(name, *inputs, case, config), exact)
    torch.use_deterministic_algorithms(True)  # New tensors hold NaN.
    try:
        found = run_pass(name, *inputs, case, config)
        again = run_pass(name, *inputs, case, config)
    finally:
        torch.use_deterministic_algorithms(False)
    return slice_error(name, found, exact) if torch.equal(found, again) else float('nan')


def _row(case: Case, layout: str, name: str, times: dict, errors: dict, rule: str) -> dict:
    finished = {way: ms for way, ms in times.items() if way != str(TORCH)}
    best = min(finished, key=finished.__getitem__, default=None)
    row = {
        'case': str(case), 'name': case.name, 'layout': layout, 'pass': name, 'dtype': str(case.dtype)[6:],
        'ms': {'torch': times.get(str(TORCH))}, 'error': {'torch': errors.get(str(TORCH))}, 'all_ms': times,
        'all_errors': errors, 'rule': rule, 'expected_ms': expected_ms(case, layout, name),
    }  # fmt: skip
    if best is not None and str(TORCH) in times:
        row['ms']['ours'], row['error']['ours'], row['best'] = finished[best], errors[best], best
        row['speedup'] = times[str(TORCH)] / finished[best]
    return row


def expected_ms(case: Case, layout: str, name: str) -> dict[str, float]:
    """Floors of a pass in ms: bytes once, taps on the common cores; and what the matrix products should take."""
    tiling = launch.tile_plane(case.geometry, case.batch, name == 'input')
    bytes_each = torch.empty(0, dtype=case.dtype).element_size()
    source, target = (height * width for height, width in (case.geometry.input, case.geometry.output))
    moved_ms = 1e3 * case.batch * case.chs * (source + target) * bytes_each / ASSUMED['copy_bytes_per_s']
    # A block of 128 pixels sees so many rows of the window.
    seen = min(tiling.window, (128 // tiling.x.tile + case.kernel) * tiling.x.window)
    products = 2 * case.batch * case.chs * tiling.tiles * tiling.pixels * seen
    products *= 1 if bytes_each == 2 else 6  # Three products at half the rate.
    matrix_ms = max(moved_ms, 1e3 * products / ASSUMED['matrix_flop_per_s'])
    if name == 'weight':  # Sums by tap are written and read again.
        matrix_ms += 1e3 * 8 * case.chs * tiling.pixels * case.kernel**2 / ASSUMED['copy_bytes_per_s']
    fma_flop = 2 * case.batch * case.chs * target * case.kernel**2
    return {
        'bytes': moved_ms,
        'fma': 1e3 * fma_flop / ASSUMED['fma_flop_per_s'],
        'matrix': matrix_ms + 2 * moved_ms * (layout == 'channels_last'),
    }


def sum_up(rows: list[dict]) -> dict:
    """Output and both gradients of the target together, in ms, and how many times as fast as torch."""
    found: dict = {}
    for layout in LAYOUTS:
        for way in ('torch', 'ours'):
            times = [row['ms'].get(way) for row in rows if row['layout'] == layout]
            found[f'{way} ms, {layout}'] = None if None in times else sum(times)
    best = min(found[f'torch ms, {layout}'] or float('inf') for layout in LAYOUTS)
    for layout in LAYOUTS:
        if found[f'ours ms, {layout}'] and found[f'torch ms, {layout}']:
            found[f'ratio, {layout}'] = found[f'torch ms, {layout}'] / found[f'ours ms, {layout}']
            found[f"ratio to torch's best layout, {layout}"] = best / found[f'ours ms, {layout}']
    return found


def time_layer(case: Case, layout: str, device: torch.device) -> dict[str, float]:
    """Forward and backward of a layer under autocast in ms, as a model calls it: torch's, and this project's."""
    pads = case.kernel // 2
    plain = nn.Conv2d(case.chs, case.chs, case.kernel, case.stride, pads, groups=case.chs, device=device)
    fast = speed_up_depthwise(nn.Sequential(nn.Conv2d(
        case.chs, case.chs, case.kernel, case.stride, pads, groups=case.chs, device=device)))  # fmt: skip
    x, grad, _ = case.draw(device, LAYOUTS[layout])
    x.requires_grad_()

    def run(layer) -> None:
        with torch.autocast('cuda', case.dtype):
            output = layer(x)
        output.backward(grad)

    return {name: time_ms(run, layer, repeats=5) for name, layer in (('torch', plain), ('ours', fast))}


def measure_step(device: torch.device, end: float, batch: int = 128) -> dict:
    """Forward and backward of a Robust-ResNet-DW-S, bf16 autocast, channels_last: ms, and peak memory in MiB."""
    images = torch.randn(batch, 3, 224, 224, device=device).to(memory_format=torch.channels_last)
    found: dict = {}
    for way in ('torch', 'ours, by rule'):
        if time.monotonic() > end and found:
            break
        torch.manual_seed(0)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        net = timm.create_model('robust_resnet_dw_small').to(device, memory_format=torch.channels_last)
        if way != 'torch':
            speed_up_depthwise(net)
        start = time.perf_counter()
        ms = _step_ms(net, images)
        found[way] = {'ms': ms, 'peak_mib': torch.cuda.max_memory_allocated(device) / 2**20}
        found[way]['first_steps_and_timing_s'] = time.perf_counter() - start
    return found


def _step_ms(net: nn.Module, images: Tensor, steps: int = 10) -> float:
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    for step in range(-3, steps):
        if step == 0:
            torch.cuda.synchronize()
            marks[0].record()
        with torch.autocast('cuda', torch.bfloat16):
            loss = net(images).float().square().mean()
        loss.backward()
        net.zero_grad(set_to_none=True)
        if step >= 0:
            marks[step + 1].record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in itertools.pairwise(marks))
