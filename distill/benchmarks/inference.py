"""Speed, latency, memory and size of models in the engines that they are exported to, against eager, in turns.

Each variant runs in a process of its own that does one thing at a time, so that other work of the machine slows all
alike. Weights are random, and ranges of int8 those of drawn images: neither changes what is computed.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

import backbones
from backbones.cost import build, count_gmacs
from distill.base.processor import processor
from distill.benchmarks import variants
from distill.benchmarks.turns import Worker
from distill.benchmarks.variants import SIDE, Variant
from distill.engines.artefact import artefact_files
from distill.export.export import export_classifier
from distill.export.files import ExportError, Wish
from distill.export.quantise.artefact import Options, default_out, quantise

CALIBRATION_IMAGES = 4
FLOPS = 2 * SIDE**3
PACKAGES = ('torch', 'timm', 'onnxruntime', 'openvino', 'nncf', 'mnn', 'executorch')


@dataclass(frozen=True)
class Subject:
    """A model under measurement.

    Attributes:
        label: Its name in the table.
        name: timm's name.
        kwargs: Further arguments of ``timm.create_model``.
    """

    label: str
    name: str
    kwargs: Mapping


@dataclass(frozen=True)
class Settings:
    """What all variants share.

    Attributes:
        engines: Names of engines.
        precisions: 'fp32' and others of `distill.engines.artefact.PRECISIONS`.
        threads: Threads of each process.
        batch_size: Images of a run, of which images/s are counted.
        rounds: Measured runs of each variant.
        singles: Runs of one image in each round, of which the latency is told.
        size_px: Side of the images; None takes each model's own.
        original: Source of peers whose entrypoints have the models' names, a file or a folder.
    """

    engines: Sequence[str] = ('onnx', 'openvino')
    precisions: Sequence[str] = ('fp32',)
    threads: int = 2
    batch_size: int = 8
    rounds: int = 10
    singles: int = 3
    size_px: int | None = None
    original: Path | None = None


Tell = Callable[[str], None]


def benchmark_inference(
    subjects: Sequence[Subject],
    settings: Settings,
    folder: Path,
    tell: Tell = lambda line: None,
    track: Callable[[Iterable], Iterable] = iter,
) -> dict:
    """Measure models in engines.

    Args:
        subjects: The models.
        settings: What all variants share.
        folder: Folder for artefacts.
        tell: Takes lines about the preparation.
        track: Called with an iterable, which it passes on with a progress bar.

    Returns:
        ``rows``: for each variant ``model``, ``engine``, ``precision``, ``images_per_s`` (median), ``times_s``,
        ``latency_ms`` (``p50`` and ``p95`` of single images), ``peak_mib``, ``file_mb``, ``gmacs``, and images/s in
        units of eager's and of the original's (``ratio_eager``, ``ratio_original``) and of what an sgemm would reach
        (``of_sgemm``). ``left_out``: what an engine cannot do, with its reason. ``sgemm_gflops``. ``settings``.

    Raises:
        ValueError: An engine is missing, or the source of the peers has none of the models.
    """
    known = _original_names(settings)
    wanted, left_out = [], []
    for subject in subjects:
        made, reasons = _prepare(subject, settings, folder, tell, subject.name in known)
        wanted += made
        left_out += reasons
    if settings.original and not known & {subject.name for subject in subjects}:
        raise ValueError(f"'{settings.original}' has no entrypoint called {', '.join(one.name for one in subjects)}; "
                         'give the file that defines them')  # fmt: skip
    times, latencies, peaks, products = _measure(wanted, settings, track)
    gflops = FLOPS / statistics.median(products) / 1e9
    gmacs = {variant.model: _gmacs(variant, subjects) for variant in wanted}
    rows = []
    for index, variant in enumerate(wanted):
        images_per_s = settings.batch_size / statistics.median(times[index])
        rows.append({
            'model': variant.model,
            'engine': variant.engine,
            'precision': variant.precision,
            'images_per_s': images_per_s,
            'times_s': times[index],
            'latency_ms': {f'p{at}': 1e3 * float(np.percentile(latencies[index], at)) for at in (50, 95)},
            'peak_mib': peaks[index],
            'file_mb': _size_mb(variant),
            'gmacs': gmacs[variant.model],
            'of_sgemm': images_per_s * 2 * gmacs[variant.model] / gflops,
        })  # fmt: skip
    for row in rows:
        for peer in ('eager', 'original'):
            same = [one for one in rows if one['model'] == row['model'] and one['engine'] == peer]
            row[f'ratio_{peer}'] = row['images_per_s'] / same[0]['images_per_s'] if same else None
    return {'rows': rows, 'left_out': left_out, 'sgemm_gflops': gflops, 'settings': _about(settings)}


def _prepare(
    subject: Subject, settings: Settings, folder: Path, tell: Tell, has_original: bool
) -> tuple[list[Variant], list[dict]]:
    """Write the artefacts of a model; returns its variants, and what the engines cannot do."""
    network = timm.create_model(subject.name, **subject.kwargs)
    loaded = backbones.load(network, input_size=settings.size_px, require_weights=False)
    height, width = (loaded.record.input_size or [])[-2:]
    eager = Variant(subject.label, 'eager', 'fp32', settings.threads, (height, width), subject.name, subject.kwargs)
    found, left_out = [eager], []
    if has_original:
        found.append(replace(eager, engine='original', path=settings.original))
    for engine in settings.engines:
        tell(f'{subject.label}: {engine}')
        try:
            wish = Wish((engine,), images=None, count=2, threads=settings.threads)
            (exported,) = export_classifier(loaded, folder, subject.label, wish)
        except ExportError as error:
            left_out.append(_left_out(subject, engine, 'fp32', error.failures[engine]))
            continue
        for precision in settings.precisions:
            path = exported.path
            if precision != 'fp32':
                tell(f'{subject.label}: {engine} {precision}')
                path = default_out(path, precision)
                options = Options(precision, _drawn(folder, max(height, width)), CALIBRATION_IMAGES, threads=1)
                try:
                    quantise(exported.path, path, options)
                except ValueError as error:
                    left_out.append(_left_out(subject, engine, precision, str(error)))
                    continue
            found.append(replace(eager, engine=engine, precision=precision, path=path))
    return found, left_out


def _left_out(subject: Subject, engine: str, precision: str, reason: str) -> dict:
    return {'model': subject.label, 'engine': engine, 'precision': precision, 'reason': reason}


def _drawn(folder: Path, size_px: int) -> Path:
    """A folder of noise to calibrate on."""
    images = folder / f'drawn_{size_px}'
    if not images.is_dir():
        images.mkdir()
        for seed in range(CALIBRATION_IMAGES):
            pixels = np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), np.uint8)
            Image.fromarray(pixels).save(images / f'{seed}.png')
    return images


def _original_names(settings: Settings) -> set[str]:
    """The names that the peers' source defines, found out in a process that ends."""
    if settings.original is None:
        return set()
    worker = Worker(variants.names_in, settings.original)
    names = worker.ask('names')
    worker.stop()
    return set(names)


def _measure(wanted: Sequence[Variant], settings: Settings, track: Callable[[Iterable], Iterable]) -> tuple:
    """Times of runs and of single images of each variant, peaks of memory, and times of the matrix product."""
    build_of: dict[str, Any] = {'eager': variants.eager, 'original': variants.original}
    product = Worker(variants.matrix_product, wanted[0])
    workers = [Worker(build_of.get(variant.engine, variants.artefact), variant) for variant in wanted]
    times: list[list[float]] = [[] for _ in wanted]
    latencies: list[list[float]] = [[] for _ in wanted]
    products: list[float] = []
    # The first round allocates and chooses kernels.
    for number in track(range(settings.rounds + 1)):
        product_s = product.ask((1, 3))
        runs = [(worker.ask((settings.batch_size, 1)), worker.ask((1, settings.singles))) for worker in workers]
        if number:
            products += product_s
            for index, (batch_s, singles_s) in enumerate(runs):
                times[index] += batch_s
                latencies[index] += singles_s
    peaks = [worker.stop() for worker in workers]
    product.stop()
    return times, latencies, peaks, products


def _gmacs(variant: Variant, subjects: Sequence[Subject]) -> float:
    subject = next(one for one in subjects if one.label == variant.model)
    return count_gmacs(build(subject.name, 'meta', **subject.kwargs), variant.size[0])


def _size_mb(variant: Variant) -> float | None:
    """Size of the files of an artefact; of a network in eager there are none."""
    if variant.path is None or variant.engine == 'original':
        return None
    return sum(file.stat().st_size for file in artefact_files(variant.path)) / 1e6


def _about(settings: Settings) -> dict:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    about = {name: value for name, value in vars(settings).items() if name != 'original'}
    about['original'] = None if settings.original is None else settings.original.name
    return {**about, 'processor': processor(), 'torch_kernels': torch.backends.cpu.get_cpu_capability(),
            'versions': versions}  # fmt: skip


def table(result: dict) -> str:
    """The result of `benchmark_inference` as a table for people."""
    width = max(len(row['model']) for row in result['rows']) + 2
    has_original = any(row['ratio_original'] for row in result['rows'])
    head = f'{"":<{width}}{"engine":<12}{"type":<6}{"images/s":>9}{"of eager":>9}'
    head += f'{"of orig.":>9}' if has_original else ''
    lines = [head + f'{"of sgemm":>9}{"p50 ms":>8}{"p95 ms":>8}{"peak MiB":>9}{"file MB":>8}']
    for row in result['rows']:
        line = f'{row["model"]:<{width}}{row["engine"]:<12}{row["precision"]:<6}{row["images_per_s"]:>9.2f}'
        line += f'{row["ratio_eager"]:>9.2f}'
        if has_original:
            line += f'{row["ratio_original"]:>9.2f}' if row['ratio_original'] else f'{"":>9}'
        latency, size = row['latency_ms'], row['file_mb']
        line += f'{row["of_sgemm"]:>9.2f}{latency["p50"]:>8.1f}{latency["p95"]:>8.1f}{row["peak_mib"]:>9.0f}'
        lines.append(line + (f'{size:>8.1f}' if size else ''))
    lines += [
        f'left out: {one["model"]} {one["engine"]} {one["precision"]}: {one["reason"]}' for one in result['left_out']
    ]
    found = result['settings']['processor']
    sets = ', '.join(found['instruction_sets'] or ()) or 'unknown instruction sets'
    return '\n'.join([*lines, f'sgemm: {result["sgemm_gflops"]:.0f} GFLOP/s · {found["name"]}, {sets}'])
