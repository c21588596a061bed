"""Cascade R-CNN on a small Robust-ResNet: mixed precision, resume, and what it finds on the card and on the CPU."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from distill.gpu_check.rows import Check, Mismatch, Setting, require
from distill.gpu_check.trainings import (
    STEPS,
    Trained,
    Trainings,
    loss_difference,
    require_falling,
    run,
    stopped,
    whole_distance,
    without_tf32,
)

CONFIG = 'cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco'
BATCH = 4
EPOCHS = 3
SIDE = 128
NOISE = 3.0
"""How often the difference between two runs of the same command that between a resumed and a whole one may be."""
FOUND = 50
"""Detections of an image that are compared."""


class Runs(Trainings):
    """The runs of the checks."""

    @functools.cached_property
    def data(self) -> Path:
        """Scenes for ten steps an epoch."""
        from distill.synthetic.coco import write_coco

        write_coco(self.setting.folder / 'data', size=SIDE, train=STEPS // EPOCHS * BATCH, val=8)
        return self.setting.folder / 'data'

    def options(self) -> dict[str, Any]:
        """What a run of ten steps an epoch has in place of its config's settings."""
        return {
            'train_dataloader.batch_size': BATCH,
            'train_cfg.max_epochs': EPOCHS,
            'train_cfg.val_interval': EPOCHS,
            'param_scheduler.0.end': 3,
            'param_scheduler.1.T_max': EPOCHS,
            'default_hooks.checkpoint.max_keep_ckpts': EPOCHS,
        }

    def get(self, name: str, amp: str | None = 'float16', resume: bool = False) -> Trained:
        """Train, or give back the run of that name."""
        if name not in self.made:
            work_dir = self.setting.folder / name
            self.made[name] = run(CONFIG, self.data, work_dir, self.setting, self.options(), amp, resume=resume)
        return self.made[name]


def checks(setting: Setting) -> list[Check]:
    """The checks, in the order of what they tell."""
    runs = Runs(setting)
    found: dict[str, Callable[[Runs], dict[str, Any]]] = {
        'AMP fp16: loss is finite and falls': lambda runs: require_falling(runs.get('fp16')),
        'detections: card = CPU': finds_the_same,
        'AMP fp16: resumed as near as a second run': functools.partial(resumes, 'epoch_2.pth'),
        'AMP bf16: loss is finite and falls': lambda runs: require_falling(runs.get('bf16', 'bfloat16')),
    }
    return [Check(name, functools.partial(function, runs)) for name, function in found.items()]


def resumes(checkpoint: str, runs: Any) -> dict[str, Any]:
    """A resumed run differs from a whole one no more than a second whole one.

    The gradients of RoIAlign and of resized maps are summed on a card in an order that changes from run to run.
    """
    whole, again = runs.get('fp16'), runs.get('again')
    stopped(whole, runs.setting.folder / 'resumed', checkpoint)
    resumed = runs.get('resumed', resume=True)
    count = len(resumed.losses)
    values = {
        'weights': whole_distance(resumed.weights(), whole.weights()),
        'weights of a second run': whole_distance(again.weights(), whole.weights()),
        'losses': loss_difference(resumed.losses, whole.losses[-count:]),
        'losses of a second run': loss_difference(again.losses, whole.losses),
    }
    limits = {name: NOISE * values[f'{name} of a second run'] for name in ('weights', 'losses')}
    return require(values, limits)


def finds_the_same(runs: Runs) -> dict[str, Any]:
    """The surest detections of the validation scenes, without TF32."""
    from distill.api.session import session
    from distill.predict import load_predictor

    trained = runs.get('fp16')
    images = sorted((runs.data / 'val2017').glob('*.jpg'))
    with session(), without_tf32():
        found = {
            device: load_predictor(trained.checkpoint, device=device, score_threshold=0.0).predict(images)
            for device in (runs.setting.device, 'cpu')
        }
    score, box, count = 0.0, 0.0, 0
    for one, other in zip(found[runs.setting.device], found['cpu'], strict=True):
        a, b = one.scores[:FOUND], other.scores[:FOUND]
        if len(a) != len(b):
            raise Mismatch('another number of objects is found', {'card': len(a), 'cpu': len(b)})
        score, count = max([score, *np.abs(a - b)]), count + len(a)
        box = max([box, *(_nearest(one, other, place) for place in range(min(10, len(a))))])
    if not count:
        raise Mismatch('nothing is found, so there is nothing to compare', {})
    return require({'score': score, 'box_px': box, 'objects': count}, {'score': 1e-3, 'box_px': 0.5})


def _nearest(one: Any, other: Any, place: int) -> float:
    """How far the nearest box of the same class is, in pixels; scores that are equal may be in another order."""
    same = other.boxes[other.labels == one.labels[place]]
    return float(np.abs(same - one.boxes[place]).max(axis=1).min()) if len(same) else float('inf')
