"""Small detectors and segmenters that learn from teachers: configs and teachers that several test files use."""

from pathlib import Path

import torch
from downstream_runs import CONFIGS, FOLDER
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

TEACHERS = {
    'det': 'cascade_rcnn/cascade-mask-rcnn_resnest_fpn_tiny_shapes-coco.py',
    'seg': 'deeplabv3/deeplabv3_resnest_tiny_shapes-ade20k.py',
}
"""Another backbone for each task; the detector's has masks besides."""
LOSSES = {
    'det': [
        dict(type='l2', strides=(8, 16, 32)),
        dict(type='fgd', weight=0.01),
        dict(type='mgd', strides=(4, 8), per_position=True, weight=1e-3),
        dict(type='cwd', on='backbone'),
    ],
    'seg': [dict(type='cwd', on='backbone', weight=3.0), dict(type='l2', on='backbone', stages=[(0, 1), (-1, -1)])],
}
"""Terms of all kinds: with trained parts and without, with random numbers, with boxes."""


def save_teacher(config: Path, path: Path, seed: int = 7) -> Path:
    """Write a teacher's checkpoint, whose weights are random and whose norms have seen something.

    Args:
        config: Its config.
        path: The checkpoint.
        seed: Of the weights.
    """
    settings = Config.fromfile(config, format_python_code=False)
    with DefaultScope.overwrite_default_scope(settings.default_scope):
        torch.manual_seed(seed)
        network = MODELS.build(settings.model)
    for name, value in network.state_dict().items():
        if name.endswith('running_var'):
            value.uniform_(0.5, 2.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({'meta': {}, 'state_dict': network.state_dict()}, path)
    return path


def write_config(task: str, folder: Path, teacher: Path, losses: list[dict] | None = None, more: str = '') -> Path:
    """Write a config that distils: one of this project's, of which ``model`` alone is wrapped.

    Args:
        task: ``det`` or ``seg``.
        folder: Folder of the config.
        teacher: The teacher's checkpoint.
        losses: The terms; by default those of `LOSSES`.
        more: Further lines.
    """
    path = folder / f'distilled_{task}.py'
    path.write_text(
        f"_base_ = '{FOLDER / CONFIGS[task]}'\n"
        'model = dict(\n'
        "    _delete_=True, type='DenseDistiller', student=_base_.model,\n"
        f"    teacher=dict(config='{FOLDER / TEACHERS[task]}', checkpoint='{teacher}'),\n"
        f'    losses={LOSSES[task] if losses is None else losses},\n'
        f')\n{more}'
    )
    return path
