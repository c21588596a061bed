"""The scores of an experiment's detectors or segmenters, and what another choice of images would make of them."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from distill.base.records import Cell, cells_of
from distill.matrix.scenes import SceneMatrix
from distill.results.files import read_results
from distill.results.per_image import difference, drawn, per_image_file, read_per_image

SECTIONS = ('detection', 'segmentation')
MAIN = {'detection': 'bbox_mAP', 'segmentation': 'mIoU'}
"""The score of each task that is known image by image."""


def read_scene_scores(matrix: SceneMatrix) -> dict[str, dict[str, float]]:
    """Read the scores of each run, in percent.

    Returns:
        By run: each score on clean images and, where corruptions were judged, its ``mPC``, the mean over kinds and
        severities, and its ``rPC``, the share of the clean score that this is.
    """
    scores: dict[str, dict[str, float]] = {}
    for run in [*matrix.alone(), *matrix.taught()]:
        section, entry = _section(matrix, run.name)
        corruption = {key: value for key, value in entry.get('corruption', {}).items() if _is_summary(value)}
        found = scores[run.name] = {name: 100 * entry[name] for name in corruption or [MAIN[section]]}
        for name, summary in corruption.items():
            found[f'{name} mPC'] = 100 * summary['mPC']
            found[f'{name} rPC'] = summary['rPC_pct'] or 0.0
    return scores


def image_interval(matrix: SceneMatrix, runs: Sequence[str], others: Sequence[str]) -> dict[str, list[float]]:
    """The intervals over images of the differences between some runs and others, each the mean over seeds.

    Images are drawn with replacement, the same ones for all runs and in all cells.

    Args:
        matrix: The experiment.
        runs: Names of runs, one a seed.
        others: Names of the runs that they are compared with, seed by seed.

    Returns:
        For the main score, its mPC and its rPC as far as they were measured: the two ends, in points. An rPC is left
        out where a clean score is 0 whatever images are drawn.
    """
    ours, theirs = ([_resampled(matrix, name) for name in some] for some in (runs, others))
    found = {}
    for suite in ours[0]:
        first, second = (np.mean([one[suite] for one in some], axis=0) for some in (ours, theirs))
        if np.isfinite(first - second)[1:].any():
            score = difference(first, second)
            found[suite] = [score.low, score.high]
    return found


@functools.lru_cache
def _drawn(folder: Path, main: str, cells: tuple[Cell, ...]) -> dict[str, np.ndarray]:
    """A run's scores for all images and for each draw of them [1 + R], as fractions.

    Args:
        folder: Folder of its scores.
        main: Name of the score.
        cells: The corrupted cells.
    """
    clean = read_per_image(per_image_file(folder))
    draws = drawn(len(clean.images))
    values = {main: clean.value(draws)}
    if cells:
        records = [read_per_image(per_image_file(folder, cell)) for cell in cells]
        values[f'{main} mPC'] = np.mean([record.value(draws) for record in records], axis=0)
        values[f'{main} rPC'] = values[f'{main} mPC'] / np.where(values[main] > 0, values[main], np.nan)
    return values


def _resampled(matrix: SceneMatrix, run: str) -> dict[str, np.ndarray]:
    """What `_drawn` finds for a run, by its name."""
    section, entry = _section(matrix, run)
    corruption = entry.get('corruption')
    cells = tuple(cells_of(corruption['kinds'], corruption['severities'])) if corruption else ()
    return _drawn(matrix.scores_folder(run).resolve(), MAIN[section], cells)


def _section(matrix: SceneMatrix, run: str) -> tuple[str, dict]:
    results = read_results(matrix.scores_folder(run))
    section = next(name for name in SECTIONS if name in results)
    return section, results[section]


def _is_summary(value: object) -> bool:
    return isinstance(value, dict) and 'mPC' in value
