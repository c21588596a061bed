"""Results of invented runs, for the tests of the report."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

KINDS = ('gaussian_noise', 'motion_blur', 'fog', 'pixelate')
"""A corruption of each group; each takes a panel in a figure, which is most of a test's time."""
CNN = ('robust_resnet_dw_small', {'dims': [32, 64, 96, 128]})
WIDE_CNN = ('robust_resnet_dw_small', {'dims': [64, 128, 192, 256]})
VIT = ('deit_tiny_patch16_224', {'img_size': 48})
WIDE_VIT = ('deit_small_patch16_224', {'img_size': 48})
RUNS = {
    # run: model, teacher, top-1 on clean, stylized, corruption, rendition, sketch, adversarial; shape bias
    'deit_teacher': (WIDE_VIT, None, (96.4, 58.2, 71.0, 80.3, 66.8, 52.7), 61.0),
    'robust_teacher': (WIDE_CNN, None, (95.2, 49.4, 66.0, 77.1, 63.4, 49.3), 52.0),
    'robust_alone': (CNN, None, (91.0, 38.0, 60.5, 70.0, 55.2, 41.3), 41.0),
    'robust_from_deit': (CNN, 'deit_teacher', (92.2, 46.6, 64.2, 74.9, 60.4, 44.0), 49.5),
    'deit_alone': (VIT, None, (89.6, 41.2, 61.0, 69.1, 54.0, 40.7), 45.0),
    'deit_from_robust': (VIT, 'robust_teacher', (90.4, 40.6, 62.1, 69.7, 52.2, 40.0), 44.1),
}
SUITES = ('clean', 'stylized', 'corruption', 'rendition', 'sketch', 'adversarial')


def run_entry(name: str) -> dict:
    (model, kwargs), teacher, *_ = RUNS[name]
    return {
        'model': model,
        'model_kwargs': kwargs,
        'teacher': teacher,
        'params': 612330,
        'checkpoint': f'{name}/student_best.pth',
        'weights_sha256': hashlib.sha256(name.encode()).hexdigest(),
        'input_size': [3, 48, 48],
        'mean': [0.485, 0.456, 0.406],
        'std': [0.229, 0.224, 0.225],
    }


def suite_entries(name: str) -> dict:
    _, _, values, bias = RUNS[name]
    entries = {suite: {'top1_pct': value, 'images': 500} for suite, value in zip(SUITES, values, strict=True)}
    entries['stylized']['shape_bias_pct'] = bias
    for suite in ('rendition', 'adversarial'):
        entries[suite].update(clean_subset_top1_pct=values[0], classes=7)
    mean = values[2]
    entries['corruption'].update(
        mean_error_pct=100 - mean,
        source='on-the-fly',
        cells={kind: [mean + 10, mean + 5, mean, mean - 5, mean - 10] for kind in KINDS},
    )
    return entries


def make_results(folder: Path, runs: Sequence[str] = tuple(RUNS), suites: Sequence[str] = SUITES) -> dict:
    """Write plausible results of some runs, with their pictures, into a folder."""
    for name, color in (('samples/0.png', 'red'), ('samples/1.png', 'blue'), ('pictures/0.png', 'green')):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (32, 24), color).save(folder / name)
    right = {run: {'label': 'star', 'confidence': 0.9} for run in runs}
    texture = {run: {'label': 'ring'} for run in runs}
    downstream = {'images': 100, 'config': 'a.py', 'checkpoint': 'a.pth', 'backbone': 'robust_from_deit'}
    downstream['pictures'] = ['pictures/0.png']
    results = {
        'schema_version': 1,
        'runs': {run: run_entry(run) for run in runs},
        'classification': {run: {suite: suite_entries(run)[suite] for suite in suites} for run in runs},
        'samples': [
            {'suite': 'clean', 'image': 'samples/0.png', 'target': 'star', 'predictions': right},
            {
                'suite': 'stylized',
                'image': 'samples/1.png',
                'target': 'star',
                'texture': 'ring',
                'predictions': texture,
            },
        ],
        'detection': {'bbox_mAP': 0.412, 'bbox_mAP_s': -1.0, **downstream},
        'segmentation': {'mIoU': 0.613, 'per_class_IoU': {'star': 0.7, 'ring': None}, **downstream},
        'provenance': {'command': 'make demo', 'seed': 0, 'versions': {'torch': '2.14.1'}},
    }
    save(folder, results)
    return results


def enrich(results: dict, folder: Path) -> dict:
    """Add what a thorough evaluation finds: intervals, calibration, fits, comparisons, problems, an explained pair."""
    for index, suites in enumerate(results['classification'].values()):
        for suite, entry in suites.items():
            low, high = entry['top1_pct'] - 4, min(entry['top1_pct'] + 4, 100)
            entry.update(top1_ci95_pct=[low, high], ece_pct=2.0 + index, input_size=[48, 48])
            if suite != 'clean':
                entry['effective_robustness_pct'] = 3.0 - index
        suites['corruption'].update(
            mce_pct=50.0 + index,
            relative_mce_pct=60.0 + index,
            mce_normaliser='AlexNet',
            extra_cells={'speckle_noise': [60, 50, 40, 30, 20]},
        )
        suites['stylized']['shape_bias_by_class'] = {'star': 80.0 - 7 * index, 'ring': 40.0 + index}
        suites['sketch']['problems'] = {'grayscale_images': 3, 'nan_logits': 2}
    runs = list(results['runs'])
    results['baseline_fit'] = {'sketch': {'slope': 0.9, 'intercept': -1.5, 'space': 'logit', 'runs': runs[:2]}}
    pair = {'a': 'robust_alone', 'b': 'robust_from_deit', 'difference_pct': -8.6, 'ci95_pct': [-10.5, -6.6]}
    results['comparisons'] = [{**pair, 'suite': 'stylized', 'agreement_pct': 71.0, 'images': 500}]
    fields = [
        {'stage': f'stages.{stage}', 'side_50_pct': 20.0 * stage, 'side_95_pct': 25.0 * stage} for stage in (1, 2)
    ]
    about = {'model': 'm', 'weights_sha256': 'a' * 64, 'input_size': [3, 48, 48], 'stages': ['stages.1', 'stages.2']}
    about.update(attribution='Grad-CAM', receptive_field=fields)
    (folder / 'explain').mkdir(exist_ok=True)
    Image.new('RGB', (32, 24), 'gray').save(folder / 'explain/cka.png')
    (folder / 'explain/cka.svg').write_text('<svg xmlns="http://www.w3.org/2000/svg" width="320" height="240"/>')
    results['explain'] = [
        {
            'a': {'name': 'deit_teacher', **about},
            'b': {'name': 'robust_from_deit', **about},
            'images': 64,
            'cka': [[0.9, 0.5], [None, 0.1]],
            'figures': {'cka': 'explain/cka.png', 'attribution': 'explain/lost.png'},
        }
    ]
    return results


def save(folder: Path, results: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'results.json').write_text(json.dumps(results))


def put(results: dict, place: str, value: object) -> None:
    """Set the value at a dotted key path."""
    *keys, last = place.split('.')
    holder = results
    for key in keys:
        holder = holder[int(key) if key.isdigit() else key]
    holder[last] = value
