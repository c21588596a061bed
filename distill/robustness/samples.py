"""Images of a suite that are saved for people, with the decision of each run."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np

from distill.base.records import KINDS, SEVERITIES, Cell
from distill.results.entries import Answer, Sample
from distill.robustness import metrics
from distill.robustness.images import SuiteImages
from distill.robustness.recorder import NO_DECISION, Recorder
from distill.robustness.suites import ImageSet

MIDDLE = SEVERITIES[len(SEVERITIES) // 2]
NO_LABEL = 'none: logits were not finite'


def save_samples(images: SuiteImages, recorders: Mapping[str, Recorder], count: int, out: Path) -> list[Sample]:
    """Save images of a suite: some spread evenly over it, and some that runs disagree on, right and wrong.

    Args:
        images: The images of the suite.
        recorders: What each run predicted, all on the same images and classes.
        count: How many of each sort.
        out: Folder of ``results.json``; the files go to ``samples/``.

    Returns:
        Entries of ``samples``.
    """
    image_set = images.image_set
    total = len(image_set.paths)
    chosen = np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
    cells: list[Cell | None] = [None] * len(chosen)
    if image_set.suite.corrupted:
        cells = [Cell(KINDS[n * len(KINDS) // len(chosen)], MIDDLE) for n in range(len(chosen))]
    picks = [(image_set.cells.index(cell), index, False) for cell, index in zip(cells, chosen, strict=True)]
    picks += [(place, index, True) for place, index in _disagreements(recorders, count)]
    records = []
    for n, (place, index, disagreement) in enumerate(picks):
        number = f'disagreement_{n - len(chosen)}' if disagreement else n
        name = f'samples/{image_set.suite.key}_{number}.png'
        (out / 'samples').mkdir(parents=True, exist_ok=True)
        images.show(index, place).save(out / name)
        record = _record(image_set, name, recorders, place, index)
        records.append({**record, 'disagreement': True} if disagreement else record)
    return records


def _disagreements(recorders: Mapping[str, Recorder], count: int) -> list[tuple[int, int]]:
    """Choose images that some runs are right on and others wrong: place of the cell, and index of the image."""
    hits = np.stack([recorder.hits for recorder in recorders.values()])
    found = np.argwhere(hits.any(axis=0) & ~hits.all(axis=0))
    if not len(found):
        return []
    chosen = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [tuple(pick) for pick in found[chosen].tolist()]


def _record(image_set: ImageSet, name: str, recorders: Mapping[str, Recorder], place: int, index: int) -> Sample:
    shown: dict = {}
    if cell := image_set.cells[place]:
        shown['note'] = cell.label
    if image_set.suite.textures:
        shown['texture'] = metrics.texture_class(image_set.paths[index])
    predictions: dict[str, Answer] = {}
    for run, recorder in recorders.items():
        decision = recorder.predicted[place, index, 0]
        label = NO_LABEL if decision == NO_DECISION else recorder.image_set.classes[decision]
        predictions[run] = {'label': label}
        if not image_set.suite.averaged:
            predictions[run]['confidence'] = float(recorder.confidence[place, index])
    target = image_set.classes[image_set.labels[index]]
    record = {'suite': image_set.suite.key, 'image': name, 'target': target, **shown, 'predictions': predictions}
    return cast(Sample, record)


def merge_samples(samples: list[Sample], more: list[Sample]) -> list[Sample]:
    """Put predictions for the same saved image together; new disagreements replace those of their suite."""
    renewed = {sample['suite'] for sample in more if sample.get('disagreement')}
    by_image = {
        sample['image']: sample for sample in samples if not (sample.get('disagreement') and sample['suite'] in renewed)
    }
    for sample in more:
        known = by_image.setdefault(sample['image'], sample)
        known['predictions'] = {**known['predictions'], **sample['predictions']}
    return list(by_image.values())
