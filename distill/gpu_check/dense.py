"""A detector and a segmenter that learn from teachers: mixed precision, resume, and the teacher's own predictions."""

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.gpu_check import detector, segmenter
from distill.gpu_check.rows import Check, Setting, require
from distill.gpu_check.trainings import Trained, Trainings, require_falling, run, without_tf32

CONFIGS = {
    'detector': 'cascade-rcnn_robust-resnet-dw_fpn_tiny_shapes-coco_from-resnest_pkd',
    'segmenter': 'deeplabv3_robust-resnet-dw_tiny_shapes-ade20k_from-resnest_cwd',
}
TEACHER_SEED = 7
SAME = 1e-3
"""The most that a term may be off from that on the CPU, in single precision."""


class Runs(Trainings):
    """The runs of the checks, with the data and the lengths of the runs without teachers."""

    def __init__(self, setting: Setting):
        super().__init__(setting)
        folders = {name: setting.folder / name for name in CONFIGS}
        self.parts = {
            name: module.Runs(Setting(setting.device, folders[name], setting.small, setting.budget_s))
            for name, module in (('detector', detector), ('segmenter', segmenter))
        }

    @functools.cache  # noqa: B019 - the runs live as long as the process
    def teacher(self, kind: str) -> Path:
        """A checkpoint of the teacher's network with random weights."""
        import torch
        from mmengine.registry import MODELS, DefaultScope

        settings = read(read(CONFIGS[kind]).model.teacher.config)
        with DefaultScope.overwrite_default_scope(settings.default_scope):
            torch.manual_seed(TEACHER_SEED)
            network = MODELS.build(settings.model)
        path = self.setting.folder / f'{kind}_teacher.pth'
        torch.save(dict(state_dict=network.state_dict()), path)
        return path

    def get(self, kind: str, name: str, amp: str | None = 'float16', **options: Any) -> Trained:
        """Train, or give back the run of that name."""
        key = f'{kind} {name}'
        if key not in self.made:
            part = self.parts[kind]
            settings = {**part.options(), 'model.teacher.checkpoint': str(self.teacher(kind)), **options}
            folder = self.setting.folder / f'{kind}_{name}'
            self.made[key] = run(CONFIGS[kind], part.data, folder, self.setting, settings, amp)
        return self.made[key]


def read(name: str) -> Any:
    """A config by its name."""
    from mmengine.config import Config

    from distill.base.packaged import find

    return Config.fromfile(find(name), format_python_code=False)


def checks(setting: Setting) -> list[Check]:
    """The checks, in the order of what they tell."""
    runs = Runs(setting)
    found: dict[str, Callable[[Runs], dict[str, Any]]] = {}
    for kind in CONFIGS:
        found[f'{kind}, AMP fp16: loss is finite and falls'] = functools.partial(falls, kind=kind)
    for kind in CONFIGS:
        found[f'{kind}, fp32: terms on the card = on the CPU'] = functools.partial(terms_the_same, kind=kind)
    return [Check(name, functools.partial(function, runs)) for name, function in found.items()]


def falls(runs: Runs, kind: str) -> dict[str, Any]:
    """The student's own losses and those of the terms together."""
    return require_falling(runs.get(kind, 'fp16'))


def terms_the_same(runs: Runs, kind: str) -> dict[str, Any]:
    """Forward passes of teacher and student in training over one batch, in single precision."""
    import torch
    from mmengine.registry import MODELS, DefaultScope
    from mmengine.runner import Runner

    from distill.training.experiment import move_data_root

    settings = read(CONFIGS[kind])
    move_data_root(settings, str(runs.parts[kind].data))
    settings.model.teacher.checkpoint = str(runs.teacher(kind))
    settings.train_dataloader.update(num_workers=0, persistent_workers=False)
    found = {}
    with DefaultScope.overwrite_default_scope(settings.default_scope), without_tf32():
        batch = next(iter(Runner.build_dataloader(settings.train_dataloader, seed=0)))
        for device in (runs.setting.device, 'cpu'):
            torch.manual_seed(TEACHER_SEED)
            model = MODELS.build(copy.deepcopy(settings.model)).train().to(device)
            losses = model(**model.data_preprocessor(copy.deepcopy(batch), True), mode='loss')
            found[device] = {key: float(value) for key, value in losses.items() if key.startswith('distill.loss')}
    here, there = found['cpu'], found[runs.setting.device]
    values = {key: abs(there[key] - value) / abs(value) for key, value in here.items()}
    return require(values, dict.fromkeys(values, SAME)) | {'terms': len(values)}
