"""Images of a suite that are saved for people, with what each run said of them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from distill.robustness import metrics
from distill.robustness.corruptions import KINDS, SEVERITIES
from distill.robustness.images import SuiteImages
from distill.robustness.recorder import NO_DECISION, Recorder

MIDDLE = len(SEVERITIES) // 2
NO_LABEL = 'none: logits were not finite'


def save_samples(images: SuiteImages, recorders: Mapping[str, Recorder], count: int, out: Path) -> list[dict]:
    """Save images of a suite: some spread evenly over it, and some of which some runs are right and others wrong.

    Args:
        images: The suite's images.
        recorders: What each run predicted; all of the same images and classes.
        count: How many of each sort.
        out: Folder of ``results.json``; the files go to ``samples/``.

    Returns:
        Entries of ``samples``.
    """
    image_set = images.image_set
    total = len(image_set.paths)
    chosen = np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
    kinds = [n * len(KINDS) // len(chosen) for n in range(len(chosen))]
    cells = [kind * len(SEVERITIES) + MIDDLE if image_set.suite.corrupted else 0 for kind in kinds]
    picks = [(cell, index, False) for cell, index in zip(cells, chosen, strict=True)]
    picks += [(cell, index, True) for cell, index in _disagreements(recorders, count)]
    records = []
    for n, (cell, index, disagreement) in enumerate(picks):
        number = f'disagreement_{n - len(chosen)}' if disagreement else n
        name = f'samples/{image_set.suite.key}_{number}.png'
        (out / 'samples').mkdir(parents=True, exist_ok=True)
        images.show(index, cell).save(out / name)
        record = _record(image_set, name, recorders, cell, index)
        records.append({**record, 'disagreement': True} if disagreement else record)
    return records


def _disagreements(recorders: Mapping[str, Recorder], count: int) -> list[tuple[int, int]]:
    hits = np.stack([recorder.hits for recorder in recorders.values()])
    found = np.argwhere(hits.any(axis=0) & ~hits.all(axis=0))
    if not len(found):
        return []
    chosen = np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)
    return [tuple(pick) for pick in found[chosen].tolist()]


def _record(image_set, name: str, recorders: Mapping[str, Recorder], cell: int, index: int) -> dict:
    record = {'suite': image_set.suite.key, 'image': name, 'target': image_set.classes[image_set.labels[index]]}
    if image_set.cells[cell]:
        kind, severity = image_set.cells[cell]
        record['note'] = f'{kind.replace("_", " ")}, severity {severity}'
    if image_set.suite.textures:
        record['texture'] = metrics.texture_class(image_set.paths[index])
    record['predictions'] = {}
    for run, recorder in recorders.items():
        decision = recorder.predicted[cell, index, 0]
        label = NO_LABEL if decision == NO_DECISION else recorder.image_set.classes[decision]
        record['predictions'][run] = {'label': label}
        if not image_set.suite.averaged:
            record['predictions'][run]['confidence'] = float(recorder.confidence[cell, index])
    return record


def merge_samples(samples: list[dict], more: list[dict]) -> list[dict]:
    """Put predictions for the same saved image together; new disagreements replace those of their suite."""
    renewed = {sample['suite'] for sample in more if sample.get('disagreement')}
    by_image = {
        sample['image']: sample for sample in samples if not (sample.get('disagreement') and sample['suite'] in renewed)
    }
    for sample in more:
        known = by_image.setdefault(sample['image'], sample)
        known['predictions'] = {**known['predictions'], **sample['predictions']}
    return list(by_image.values())
