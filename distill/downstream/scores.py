"""Turn what a `Runner` measured into the sections of ``results.json``."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from backbones.checkpoint import read_weights, weights_sha256
from backbones.weights.checkpoint_file import read_checkpoint
from distill.downstream.backbone_origin import backbone_name
from distill.downstream.student_config import student_weights
from distill.engines import is_artefact
from distill.engines.artefact import artefact_record
from distill.engines.scenes import scene_manifest
from distill.results.files import new_results
from distill.results.per_image import FOLDER


def to_results(
    runner: Runner, scores: dict[str, float], config: Config, pictures: list[Path], out: Path, per_image: bool = False
) -> dict:
    """Sort a test's scores into the section of their task.

    Args:
        runner: The runner after its test.
        scores: What `Runner.test` returned.
        config: The runner's config.
        pictures: Pictures of predictions that were drawn.
        out: Folder that ``results.json`` goes to; the pictures' paths are relative to it.
        per_image: Whether what was found on each image lies beside it.

    Returns:
        Contents of ``results.json``: mAP and mIoU as fractions. A classifier's scores come from
        `distill.robustness`, and are only handed through here.
    """
    results = new_results()
    if 'top1_pct' in scores:
        results['scores'] = dict(scores)
        return results
    section = task(config)
    results[section] = task_scores(scores, config) | {
        'images': len(runner.test_dataloader.dataset),
        'config': str(config.filename),
        'checkpoint': os.path.relpath(config.load_from, out),
        **_weights(config.load_from, config),
        'pictures': [os.path.relpath(path, out) for path in pictures],
    }
    if per_image:
        results[section]['per_image'] = FOLDER
    return results


def _weights(path: str, config: Config) -> dict:
    """The hash of the weights that were tested, what is known of their training and, of an artefact, of its source."""
    if not is_artefact(path):
        meta = read_checkpoint(path).get('meta')
        told = {'backbone': backbone_name(config, meta), **_training(meta)}
        return {'weights_sha256': weights_sha256(student_weights(read_weights(path))), **told}
    manifest = scene_manifest(path)
    told = {'backbone': backbone_name(config, None), 'artefact': artefact_record(manifest)}
    return {'weights_sha256': manifest.sha256, **told}


def _training(meta: Any) -> dict:
    """The seed that a checkpoint was trained with and the teacher that it learned from, as far as it tells."""
    found = meta if isinstance(meta, Mapping) else {}
    seed, teacher = found.get('seed'), found.get('teacher')
    told: dict = {'seed': seed} if isinstance(seed, int) else {}
    if isinstance(teacher, Mapping) and 'weights_sha256' in teacher:
        told['teacher'] = {key: teacher[key] for key in ('checkpoint', 'weights_sha256')}
    return told


def task(config: Config) -> str:
    """The section of ``results.json`` that a config's scores go to: ``detection`` or ``segmentation``."""
    return 'segmentation' if config.get('default_scope') == 'mmseg' else 'detection'


def task_scores(scores: dict[str, float], config: Config) -> dict[str, float]:
    """Scores as fractions, under the names of ``results.json``.

    Args:
        scores: What `Runner.test` returned.
        config: The runner's config.

    Raises:
        ValueError: The evaluator gives no mIoU, or the ground truth has nothing to score: then mIoU is not a number,
            and pycocotools' mAP is -1.
    """
    if task(config) == 'segmentation':
        names = ('mIoU', 'mAcc', 'aAcc')
        missing = [name for name in names if name not in scores]
        if missing:
            raise ValueError(
                f'the test has no {", ".join(missing)} (it has {", ".join(scores) or "no score"}); '
                "let test_evaluator be an IoUMetric with iou_metrics=['mIoU']"
            )
        if any(math.isnan(scores[name]) for name in names):
            raise ValueError(
                'mIoU is not a number: no pixel of the test set has a label that counts (255 stands for none); '
                'set reduce_zero_label, the suffixes or the label maps right'
            )
        return {name: round(float(scores[name]) / 100, 6) for name in names}
    found = {key.rpartition('/')[2]: float(scores[key]) for key in scores}
    empty = [name for name in main_scores(config) if not found.get(name, 0) >= 0]
    if empty:
        raise ValueError(
            f'{empty[0]} is {found[empty[0]]:g}: no object of the test set counts; '
            'set the annotation file of test_evaluator, or metainfo.classes, to what the images show'
        )
    return dict.fromkeys(main_scores(config), 0.0) | found


def main_scores(config: Config) -> list[str]:
    """The scores that a test is summed up in: mIoU, or the mAP of boxes and of masks.

    mmdet's metric returns nothing at all where a detector finds nothing; that is an mAP of 0.
    """
    if task(config) == 'segmentation':
        return ['mIoU']
    evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
    metrics = next((evaluator['metric'] for evaluator in evaluators if 'metric' in evaluator), 'bbox')
    return [f'{metric}_mAP' for metric in ([metrics] if isinstance(metrics, str) else metrics)]
