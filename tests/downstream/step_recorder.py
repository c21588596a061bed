"""A hook that writes down what a run did, for the tests: configs name this module in ``custom_imports``."""

import json
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RecordHook(Hook):
    """Write the images and the loss of every step to ``steps_<rank>.json`` in the work directory."""

    def __init__(self):
        self.steps = []

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        images = [sample.img_path for sample in data_batch['data_samples']]
        self.steps.append([images, outputs['loss'].item()])

    def after_train(self, runner) -> None:
        Path(runner.work_dir, f'steps_{runner.rank}.json').write_text(json.dumps(self.steps))


@HOOKS.register_module()
class SpoilHook(Hook):
    """Put NaN into a step's images.

    Args:
        step: Number of the step, from 1.
        rank: The process whose images it is; None for all.
    """

    def __init__(self, step: int, rank: int | None = None):
        self.step = step
        self.rank = rank

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        if runner.iter + 1 == self.step and self.rank in (None, runner.rank):
            data_batch['inputs'] = [image.float() * float('nan') for image in data_batch['inputs']]
