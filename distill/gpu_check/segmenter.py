"""DeepLabV3 on a small Robust-ResNet: mixed precision, resume, and label maps on the card and on the CPU."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from distill.gpu_check.detector import resumes
from distill.gpu_check.rows import Check, Setting, require
from distill.gpu_check.trainings import STEPS, Trained, Trainings, require_falling, run, without_tf32

CONFIG = 'deeplabv3_robust-resnet-dw_tiny_shapes-ade20k'
BATCH = 4
SIDE = 128


class Runs(Trainings):
    """The runs of the checks."""

    @functools.cached_property
    def data(self) -> Path:
        """A few scenes, which are seen several times."""
        from distill.synthetic.ade20k import write_ade20k

        write_ade20k(self.setting.folder / 'data', size=SIDE, train=STEPS, val=8)
        return self.setting.folder / 'data'

    def options(self) -> dict[str, Any]:
        """What a short run has in place of its config's settings."""
        return {
            'train_dataloader.batch_size': BATCH,
            'train_cfg.max_iters': STEPS,
            'train_cfg.val_interval': STEPS,
            'param_scheduler.0.end': 3,
            'param_scheduler.1.begin': 3,
            'param_scheduler.1.end': STEPS,
            'default_hooks.checkpoint.interval': STEPS // 3,
            'default_hooks.checkpoint.max_keep_ckpts': 3,
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
        'label maps: card = CPU': labels_the_same,
        'AMP fp16: resumed as near as a second run': functools.partial(resumes, f'iter_{STEPS // 3 * 2}.pth'),
        'AMP bf16: loss is finite and falls': lambda runs: require_falling(runs.get('bf16', 'bfloat16')),
    }
    return [Check(name, functools.partial(function, runs)) for name, function in found.items()]


def labels_the_same(runs: Runs) -> dict[str, Any]:
    """The share of pixels of the validation scenes that are labelled otherwise, without TF32."""
    from distill.api.session import session
    from distill.predict import load_predictor

    trained = runs.get('fp16')
    images = sorted((runs.data / 'images' / 'validation').glob('*.jpg'))
    with session(), without_tf32():
        found = {
            device: load_predictor(trained.checkpoint, device=device).predict(images)
            for device in (runs.setting.device, 'cpu')
        }
    pairs = list(zip(found[runs.setting.device], found['cpu'], strict=True))
    different = float(np.mean([np.mean(one.labels != other.labels) for one, other in pairs]))
    classes = len({int(label) for _, other in pairs for label in np.unique(other.labels)})
    return require({'different': different, 'classes': classes}, {'different': 1e-3})
