"""From what a `Runner` measured to the sections of ``results.json``."""

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
        Contents of ``results.json``: mAP and mIoU as fractions, accuracy in percent.
    """
    common = {
        'images': len(runner.test_dataloader.dataset),
        'config': str(config.filename),
        'checkpoint': str(config.load_from),
    }
    backbone = config.model.get('backbone', {})
    if backbone:
        checkpoint = backbone.get('checkpoint')
        common['backbone'] = run_name(checkpoint) if checkpoint else f'{backbone.get("model")} (from scratch)'
        common['pictures'] = [os.path.relpath(path, out) for path in pictures]
    results = {'schema_version': SCHEMA_VERSION}
    if any('mAP' in key for key in scores):
        results['detection'] = {key.rpartition('/')[2]: value for key, value in scores.items()} | common
    elif 'mIoU' in scores:
        results['segmentation'] = {key: scores[key] / 100 for key in ('mIoU', 'mAcc', 'aAcc')} | common
    else:
        name = run_name(config.load_from)
        results['classification'] = {name: {'clean': {**scores, 'images': common['images']}}}
    return results
