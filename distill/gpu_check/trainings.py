"""Short trainings, as calls of `distill.api`, and what is compared of them."""

import importlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.api.train import train
from distill.gpu_check.rows import Mismatch, Setting, distance

STEPS = 30
ENDS = 5
"""Steps at both ends of a run whose mean losses are compared."""
FALLS_TO = 0.97
"""What the loss must have fallen to, of what it was."""
EXACT = {'randomness.deterministic': True, 'env_cfg.cudnn_benchmark': False}
"""What makes two runs on one card the same."""


@dataclass(frozen=True)
class Trained:
    """A training that has ended.

    Attributes:
        work_dir: Its folder.
        losses: The loss of each step.
        checkpoint: Its last checkpoint.
    """

    work_dir: Path
    losses: list[float]
    checkpoint: Path

    def weights(self, part: str = 'state_dict') -> dict[str, Tensor]:
        """The floating-point tensors of the last checkpoint, on the CPU."""
        return floats(torch.load(self.checkpoint, map_location='cpu', weights_only=True)[part])


class Trainings:
    """The runs of the checks, each made when the first check asks for it.

    Args:
        setting: Where checks run.
    """

    def __init__(self, setting: Setting):
        self.setting = setting
        self.made: dict[str, Trained] = {}


def floats(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The floating-point tensors of a state dict."""
    return {key: value for key, value in state.items() if isinstance(value, Tensor) and value.is_floating_point()}


def run(
    config: str,
    data_root: Path,
    work_dir: Path,
    setting: Setting,
    options: Mapping[str, Any],
    amp: str | None = 'float16',
    **call: Any,
) -> Trained:
    """Train; on the CPU, which has no mixed precision here, in single precision.

    Args:
        config: Name of a config.
        data_root: Folder of the data.
        work_dir: Folder of the run.
        setting: Where checks run.
        options: Settings by dotted keys.
        amp: Type of mixed precision, or None for none.
        call: Further arguments of `distill.api.train.train`.
    """
    # Else mmengine formats the config's text four times a run, which takes longer than the steps.
    for module in ('mmengine.config.config', 'yapf.yapflib.yapf_api'):
        importlib.import_module(module).FormatCode = lambda text, **style: (text, True)
    mixed = amp is not None and setting.device != 'cpu'
    options = {
        'default_hooks.logger.interval': 1,
        'log_processor.window_size': 1,
        'visualizer.vis_backends': [dict(type='LocalVisBackend')],
        **({'optim_wrapper.dtype': amp} if mixed and amp != 'float16' else {}),
        **options,
    }
    if not mixed:
        options.pop('optim_wrapper.dtype', None)
    result = train(config, data_root, work_dir, amp=mixed, cfg_options=options, **call)
    if result.checkpoint is None:
        raise Mismatch('the run has left no checkpoint', {})
    return Trained(work_dir, step_losses(work_dir), result.checkpoint)


def step_losses(work_dir: Path) -> list[float]:
    """The loss of each step, from mmengine's log; a step that was made again counts as it was made last."""
    losses = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for text in path.read_text(encoding='utf-8').splitlines():
            record = json.loads(text)
            if 'loss' in record:
                losses[record['step']] = record['loss']
    return [losses[step] for step in sorted(losses)]


def require_falling(trained: Trained) -> dict[str, Any]:
    """Check that all losses are finite and that they fall.

    Raises:
        Mismatch: They do not.
    """
    losses = torch.tensor(trained.losses)
    values = {'steps': len(losses), 'first': float(losses[:ENDS].mean()), 'last': float(losses[-ENDS:].mean())}
    if not losses.isfinite().all():
        raise Mismatch('a loss is not finite', {**values, 'losses': trained.losses})
    if not values['last'] <= FALLS_TO * values['first']:
        raise Mismatch('the loss does not fall', {**values, 'losses': trained.losses})
    return values


def largest_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference between two sets of tensors of the same names."""
    _require_same_names(one, other)
    return max((float((one[key] - other[key]).abs().max()) for key in one if one[key].numel()), default=0.0)


def whole_distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """‖one − other‖ / ‖other‖ over all tensors together."""
    _require_same_names(one, other)
    return distance(*(torch.cat([state[key].flatten().double() for key in one]) for state in (one, other)))


def _require_same_names(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    if one.keys() != other.keys():
        raise Mismatch('the checkpoints hold other tensors', {'only in one': sorted(one.keys() ^ other.keys())})


def loss_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference between the losses of the same step, relative to the first loss."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) / abs(other[0])


def stopped(whole: Trained, work_dir: Path, checkpoint: str) -> Path:
    """A folder as a run leaves it that was stopped after it had written a checkpoint of a whole one."""
    work_dir.mkdir(parents=True)
    shutil.copy(whole.work_dir / checkpoint, work_dir)
    return work_dir


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute in single precision within the block; on a card convolutions are rounded to TF32 otherwise."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = False
    try:
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value
