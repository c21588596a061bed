"""The cost of an evaluation on the suites beyond its forward passes and corruptions."""

import resource
import time
from pathlib import Path

import numpy as np
import torch

from distill.corruptions import corrupt
from distill.robustness.evaluate import Settings, evaluate
from distill.robustness.images import SuiteImages
from distill.robustness.runs import Run
from distill.robustness.suite_table import ON_THE_FLY
from distill.robustness.suites import ImageSet, choose_suites, open_suite

BATCH = 100


def benchmark_suite(run: Run, roots: list[Path], out: Path, repeats: int = 3) -> dict:
    """Time the evaluation of one model and its indispensable parts in turns, and measure its memory.

    Everything runs in this process, and times are processor times. The parts are the bare forward passes, over as many
    images and in the batches that `evaluate` uses, and the corruptions; reading, resizing, normalising, scoring and
    writing are not among them.

    Args:
        run: The model.
        roots: Folders with the suites, of growing size; times are those of the first.
        out: Folder for results.
        repeats: Measurements, at least 1, of which the fastest counts.

    Returns:
        ``predictions``, ``whole_s``, ``forward_s``, ``corruption_s``, ``ratio`` of the whole to the sum of these two,
        and ``peak_memory_mib``: images of a suite → most memory that this process held up to the end of evaluating it.
    """
    times = np.full((3, repeats), np.inf)
    image_sets = [open_suite(suite, roots[0], run.classes) for suite in choose_suites(None, roots[0], run.classes)[0]]
    predictions = sum(len(images.paths) * len(images.cells) for images in image_sets)
    for repeat in range(repeats):
        marks = [time.process_time()]
        _evaluate(run, roots[0], out / f'{roots[0].name}_{repeat}')
        marks.append(time.process_time())
        _forward(run, predictions)
        marks.append(time.process_time())
        _corrupt(run, image_sets)
        marks.append(time.process_time())
        times[:, repeat] = np.diff(marks)
    peaks = {len(image_sets[0].paths): _peak_mib()}
    for root in roots[1:]:
        results = _evaluate(run, root, out / root.name)
        peaks[results['classification'][run.name]['clean']['images']] = _peak_mib()
    whole_s, forward_s, corruption_s = times.min(axis=1).tolist()
    return {
        'predictions': predictions,
        'whole_s': whole_s,
        'forward_s': forward_s,
        'corruption_s': corruption_s,
        'ratio': whole_s / (forward_s + corruption_s),
        'peak_memory_mib': peaks,
    }


def _evaluate(run: Run, root: Path, out: Path) -> dict:
    suites, _ = choose_suites(None, str(root), run.classes)
    return evaluate([run], suites, Settings(str(root), out, batch_size=BATCH, workers=0))


@torch.inference_mode()
def _forward(run: Run, count: int) -> None:
    images = torch.zeros(BATCH, 3, *run.transform['input_size'], device=run.device)
    images = images.to(memory_format=torch.channels_last)
    for start in range(0, count, BATCH):
        run.network(images[: count - start])


def _corrupt(run: Run, image_sets: list[ImageSet]) -> None:
    for image_set in (each for each in image_sets if each.suite.corrupted == ON_THE_FLY):
        plain = ImageSet(**{**vars(image_set), 'suite': image_sets[0].suite, 'cells': [None]})
        pixels = SuiteImages(plain, run.transform).__getitems__(range(len(plain.paths)))[0][:, 0]
        pixels = pixels.permute(0, 2, 3, 1).contiguous().numpy()
        for cell in image_set.cells:
            corrupt(pixels, cell.kind, cell.severity, range(len(pixels)))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(result: dict) -> str:
    """Format the result of `benchmark_suite` for people."""
    peaks = ', '.join(f'{mib:.0f} MiB ({images:,} images a suite)' for images, mib in result['peak_memory_mib'].items())
    return (
        f'{result["predictions"]:,} predictions: {result["whole_s"]:.2f} s, of which forward passes '
        f'{result["forward_s"]:.2f} s and corruption {result["corruption_s"]:.2f} s: ratio {result["ratio"]:.2f}\n'
        f'peak memory: {peaks}'
    )
