"""Which layers int8 harms, and how many of them have to stay in fp32.

The harm of a layer is the error of the outputs when that layer alone is in int8, which the ranges of calibration make
possible without labels: ``mean((y_int8 − y_fp32)²) / var(y_fp32)``, over all outputs and images. Of a detector or
segmenter it is the share of objects or pixels that are others. It costs a file and a pass over `IMAGES` images for each
layer. What two layers do together is not seen; `fewest_kept` measures that.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from distill.engines import by_suffix
from distill.engines.artefact import Manifest, artefact_files
from distill.engines.portions import run_images
from distill.engines.scenes import DETECTION, SEGMENTATION, Objects, objects_of
from distill.export.compare_scenes import compare_labels, compare_objects
from distill.export.quantise.calibration import Calibration, as_input
from distill.export.quantise.quantiser import Quantiser, Say

IMAGES = 32
"""Of the calibration, to measure the error of a layer on."""
BATCH = 16
"""Images that an artefact is shown at a time, where its batch is not fixed."""
SURE = 0.3
"""The score from which on objects are compared; of the others a detector gives many, and they come and go."""


def sensitivities(
    quantiser: Quantiser,
    path: Path,
    manifest: Manifest,
    calibration: Calibration,
    folder: Path,
    threads: int | None = None,
    say: Say = lambda line: None,
) -> dict[str, float]:
    """The harm of each layer, the most sensitive one first.

    Args:
        quantiser: Of the artefact.
        path: The fp32 artefact.
        manifest: What stands beside it.
        calibration: Images; no labels are needed.
        folder: For temporary files.
        threads: Of the engine.
        say: Takes the name of each layer that is about to be measured.
    """
    few = calibration.first(IMAGES)
    expected = outputs(path, manifest, few, threads)
    found = {}
    for layer in quantiser.layers:
        say(layer)
        file = folder / f'only{path.suffix}'
        quantiser.write_only(file, layer, few)
        found[layer] = harm(outputs(file, manifest, few, threads), expected, manifest)
        for one in artefact_files(file):
            one.unlink()
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def outputs(path: Path, manifest: Manifest, calibration: Calibration, threads: int | None) -> list:
    """What an artefact says of images: all outputs, each [N, …]; a detector's or segmenter's result of each image."""
    session = by_suffix(path).open(path, threads)
    if calibration.sizes:
        found = zip(map(session.run, calibration.inputs(manifest)), calibration.sizes, strict=True)
        # Masks are left out: they are of the boxes that are compared.
        names = [name for name in manifest.outputs if name != 'masks']
        return [
            objects_of(names, one[: len(names)], size, 0.5) if manifest.task == DETECTION else one[0]
            for one, size in found
        ]
    starts = range(0, len(calibration), BATCH)
    shown = np.asarray(calibration.images)
    batches = [run_images(session, as_input(shown[start : start + BATCH], manifest)) for start in starts]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def harm(found: Sequence, expected: Sequence, manifest: Manifest) -> float:
    """How far outputs are from those that are expected; 0 means equal.

    Args:
        found: See `outputs`.
        expected: Likewise.
        manifest: Of the artefact.
    """
    if manifest.task == SEGMENTATION:
        return 1 - compare_labels(found, expected).agreement
    if manifest.task == DETECTION:
        sure = [[_sure(one) for one in side] for side in (found, expected)]
        return 1 - compare_objects(*sure, [(1, 1)] * len(found)).agreement
    return noise(found, expected)


def _sure(objects: Objects) -> Objects:
    """The objects that a user would look at."""
    kept = objects.scores >= SURE
    return Objects(objects.boxes[kept], objects.scores[kept], objects.labels[kept])


def noise(found: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> float:
    """``mean((y − y')²) / var(y')`` of each output, the mean over outputs; 0 means equal."""
    return float(np.mean([np.mean((y - z) ** 2) / max(np.var(z), 1e-12) for y, z in zip(found, expected, strict=True)]))


def fewest_kept(total: int, drop_of: Callable[[int], float], limit: float) -> int:
    """The fewest layers, the most sensitive ones first, that have to stay in fp32 to hold a limit.

    Doubles the number until the limit holds, then halves the step. That finds the fewest where more layers in fp32
    never lose more; where noise breaks this, the answer still holds the limit, and one layer less does not.

    Args:
        total: Number of layers.
        drop_of: The loss of accuracy, in points, with that many layers in fp32; called once for each number.
        limit: The most that may be lost, in points.

    Raises:
        ValueError: Not even all layers but one hold it.
    """
    too_few, enough = -1, 0
    while drop_of(enough) > limit:
        if enough >= total - 1:
            raise ValueError(
                f'no int8 artefact loses {limit} points or less: with all layers but one in fp32 it loses more; '
                'calibrate on other images, or allow more'
            )
        too_few, enough = enough, min(total - 1, max(1, 2 * enough))
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if drop_of(middle) <= limit else (middle, enough)
    return enough
