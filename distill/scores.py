"""From what a `Runner` measured to the sections of ``results.json``."""

import os
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from distill.robustness.runs import run_name

SCHEMA_VERSION = 1


def to_results(runner: Runner, scores: dict[str, float], config: Config, pictures: list[Path], out: Path) -> dict:
    """Sort a test's scores into the section of their task.

    Args:
        runner: The runner after its test.
        scores: What `Runner.test` returned.
        config: Its config.
        pictures: Pictures of predictions that were drawn.
        out: Folder that ``results.json`` goes to; the pictures' paths are relative to it.

    Returns:
        Contents of ``results.json``: mAP and mIoU as fractions. A classifier's scores come from
        `distill.robustness`, and are only handed through here.
    """
    common = {
        'images': len(runner.test_dataloader.dataset),
        'config': str(config.filename),
        'checkpoint': os.path.relpath(config.load_from, out),
    }
    backbone = config.model.get('backbone', {})
    if backbone:
        checkpoint = backbone.get('checkpoint')
        common['backbone'] = run_name(checkpoint) if checkpoint else f'{backbone.get("model")} (from scratch)'
        common['pictures'] = [os.path.relpath(path, out) for path in pictures]
    results = {'schema_version': SCHEMA_VERSION}
    if 'top1_pct' in scores:
        results['scores'] = dict(scores)
    elif any('mAP' in key for key in scores):
        results['detection'] = {key.rpartition('/')[2]: value for key, value in scores.items()} | common
    else:
        results['segmentation'] = {key: round(float(scores[key]) / 100, 6) for key in ('mIoU', 'mAcc', 'aAcc')} | common
    return results
