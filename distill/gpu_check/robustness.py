"""The judge: images corrupted on the device and on the CPU, and a student trained there that is shown them."""

import functools
import time
from pathlib import Path
from typing import Any

from distill.gpu_check.rows import Check, Mismatch, Setting, require
from distill.gpu_check.trainings import Trained, run, without_tf32

CONFIG = 'robust-resnet-tiny_shapes'
KINDS = (('gaussian_noise', 3), ('defocus_blur', 2), ('brightness', 5), ('jpeg_compression', 4), ('frost', 1))
IMAGES = 100
LEVELS_OFF = 8
"""Most grey levels by which corruptions in `SINGLE_PRECISION` may be off on the device: elastic_transform reads between
pixels, at multiples of 1/32. The others may not be off."""
SHARE_OFF = 1e-3
"""Share of the values that may be off at all."""
SINGLE_PRECISION = ('defocus_blur', 'motion_blur', 'zoom_blur', 'gaussian_blur', 'snow', 'fog', 'elastic_transform')


class Runs:
    """The data and the student.

    Args:
        setting: Where checks run.
    """

    def __init__(self, setting: Setting):
        self.setting = setting

    @functools.cached_property
    def data(self) -> Path:
        """Images to train on for a moment, and to judge by."""
        from distill.synthetic.imagenet_like import write_imagenet_like

        write_imagenet_like(self.setting.folder / 'data', size=32, train=640, val=IMAGES, shifted=40)
        return self.setting.folder / 'data'

    @functools.cached_property
    def student(self) -> Trained:
        """A student that has learned something, so that few of its predictions are toss-ups."""
        options = {'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 3}
        return run(CONFIG, self.data, self.setting.folder / 'student', self.setting, options, None)


def checks(setting: Setting) -> list[Check]:
    """The checks."""
    runs = Runs(setting)
    return [
        Check('corruptions: card = CPU, 32 pixels', functools.partial(same_levels, setting, 32, 64)),
        Check('corruptions: card = CPU, 224 pixels', functools.partial(same_levels, setting, 224, 32)),
        Check('probabilities in a few cells: card = CPU', functools.partial(same_probabilities, runs)),
        Check('scores of whole suites: card = CPU', functools.partial(same_scores, runs)),
    ]


def same_levels(setting: Setting, side_px: int, count: int) -> dict[str, Any]:
    """All kinds at all severities, and the time that each takes: ms an image on the device, and drawing for it.

    Args:
        setting: Where checks run.
        side_px: Side of the images.
        count: Images; a fourth of them on a CPU.
    """
    import numpy as np
    import torch

    from distill.base.records import EXTRA_KINDS, KINDS, SEVERITIES, Cell
    from distill.corruptions import corrupt
    from distill.corruptions.tensors.table import corrupt_drawn, draw
    from distill.synthetic.imagenet_like import render_image

    if setting.small:
        count = max(2, count // 8)
    images = np.stack([np.asarray(render_image(0, 'val', index, side_px)[0]) for index in range(count)])
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2).to(setting.device).contiguous()
    seeds, definition = range(count), 'imagenet_c'
    worst, exact, shares, times = 0, 0, [], {}
    for kind in KINDS + EXTRA_KINDS:
        cells = [Cell(kind, severity) for severity in SEVERITIES]
        start = time.perf_counter()
        drawn = draw(images, cells, seeds, definition)
        drawing_s = time.perf_counter() - start
        there = drawn.to(setting.device)
        corrupt_drawn(tensors, cells, there, definition)  # Tables are made, and kernels loaded.
        start = time.perf_counter()
        found = corrupt_drawn(tensors, cells, there, definition)[:, -1].permute(0, 2, 3, 1).cpu().numpy()
        each = len(cells) * count / 1000
        times[kind] = {'device ms': (time.perf_counter() - start) / each, 'drawing ms': drawing_s / each}
        expected = corrupt(images, kind, SEVERITIES[-1], seeds)
        off = np.abs(found.astype(int) - expected)
        worst, shares = max(worst, int(off.max())), [*shares, float((off > 0).mean())]
        if kind not in SINGLE_PRECISION:
            exact = max(exact, int(off.max()))
    limits = {'levels': LEVELS_OFF, 'levels of exact kinds': 0}
    values = {'levels': worst, 'levels of exact kinds': exact, 'share off': max(shares)}
    return require(values, {**limits, 'share off': SHARE_OFF}) | {'times': times}


def same_probabilities(runs: Runs) -> dict[str, Any]:
    """Of the same corrupted images."""
    import numpy as np
    from torch import from_numpy

    from distill.base.images import read_image
    from distill.corruptions import corrupt
    from distill.robustness.runs import load_run

    files = sorted((runs.data / 'val').rglob('*.jp*g'))[:IMAGES]
    images = np.stack([np.asarray(read_image(path)[0]) for path in files])
    path = str(runs.student.work_dir / 'student_best.pth')
    with without_tf32():
        judges = {device: load_run(path, device) for device in ('cpu', runs.setting.device)}
        worst, flips, hits = 0.0, 0, set()
        for kind, severity in KINDS:
            shown = from_numpy(corrupt(images, kind, severity, range(len(images)))).permute(0, 3, 1, 2)
            one, other = (judges[device].predict(shown).softmax(1) for device in (runs.setting.device, 'cpu'))
            worst = max(worst, float((one - other).abs().max()))
            flips += int((one.argmax(1) != other.argmax(1)).sum())
            hits |= set(other.argmax(1).tolist())
    if len(hits) < 2:
        raise Mismatch('the student says the same of all images', {'classes': len(hits)})
    return require({'probability': worst, 'other answers': flips}, {'probability': 1e-3, 'other answers': 2})


def same_scores(runs: Runs) -> dict[str, Any]:
    """The mean error over all corruptions, which the device makes itself, and the scores of the suites, in points."""
    from distill.api.evaluate import evaluate

    path, scores = runs.student.work_dir / 'student_best.pth', {}
    with without_tf32():
        for where, device in (('device', runs.setting.device), ('cpu', 'cpu')):
            out = runs.setting.folder / f'judged on {where}'
            options = dict(corruption_limit=20, corrupt_on=where, device=device, workers=0, progress=False)
            found = evaluate(path, runs.data, out=out, **options)
            scores[where] = dict(_numbers(found.content['classification']))
    if not scores['cpu'] or scores['cpu'].keys() != scores['device'].keys():
        raise Mismatch('the results hold other scores', {'cpu': len(scores['cpu'])})
    worst = max(abs(value - scores['device'][key]) for key, value in scores['cpu'].items())
    return require({'points': worst, 'scores': len(scores['cpu'])}, {'points': 5.0})


def _numbers(tree: Any, path: str = '') -> list[tuple[str, float]]:
    """All accuracies and errors in percent, by their places."""
    if isinstance(tree, dict):
        return [pair for key, its in tree.items() for pair in _numbers(its, f'{path}/{key}')]
    is_number = isinstance(tree, (int, float)) and not isinstance(tree, bool)
    return [(path, float(tree))] if is_number and 'pct' in path else []
