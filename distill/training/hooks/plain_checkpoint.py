"""Keep Python objects out of checkpoints."""

import datetime
from collections import deque
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS

from backbones.weights.stand_ins import Inert

PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.Tensor, torch.dtype, torch.device, torch.Size)
"""What torch loads with weights only, besides lists, tuples and dicts."""


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Keep Python objects out of checkpoints, so that these load with weights only.

    mmengine stores its log as `HistoryBuffer` objects, whose pickle torch ≥ 2.6 refuses to load. This hook writes each
    as two lists, and makes objects of them again when training resumes. Other objects, which a hook or a data set of a
    user may bring, become plain values, or are left out with a line in the log.

    A checkpoint that mmengine's own runner has written holds inert stand-ins where it held objects
    (`backbones.weights.stand_ins`); its log is restored from them.
    """

    # After the hooks that add to a checkpoint.
    priority = 'VERY_LOW'

    def __init__(self):
        self.named: set[str] = set()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Turn everything but tensors into plain values."""
        scalars = checkpoint['message_hub']['log_scalars']
        checkpoint['message_hub']['log_scalars'] = {k: v.data for k, v in scalars.items()}
        left_out: list[str] = []
        for key, value in checkpoint.items():
            if key not in ('state_dict', 'ema_state_dict'):
                checkpoint[key] = to_loadable(value, key, left_out)
        self.tell(runner, 'left out of checkpoints, since they are no plain values', left_out)

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Turn the lists of the log into objects again."""
        hub = checkpoint.get('message_hub')
        if not isinstance(hub, dict):
            return
        scalars, info = (hub.get(key) or {} for key in ('log_scalars', 'runtime_info'))
        left_out = []
        for key, value in list(scalars.items()):
            buffer = value if isinstance(value, HistoryBuffer) else history(value)
            if buffer is None:
                left_out.append(key)
                del scalars[key]
            else:
                scalars[key] = buffer
        for key, value in list(info.items()):
            if isinstance(value, Inert):
                left_out.append(key)
                del info[key]
        self.tell(runner, 'not taken from the checkpoint, since they are no plain values', left_out)

    def tell(self, runner, what: str, names: list[str]) -> None:
        """Write a line about names that were not named before."""
        new = [name for name in names if name not in self.named]
        if new:
            self.named.update(new)
            runner.logger.warning(f'{what}: {", ".join(new)}')


def history(value) -> HistoryBuffer | None:
    """A log as mmengine has it, made of two lists or of a stand-in for mmengine's object; None if that cannot be."""
    if isinstance(value, Inert):
        state = value.state if isinstance(value.state, dict) else {}
        value = state.get('_log_history'), state.get('_count_history')
    try:
        numbers, counts = map(np.asarray, value)
    except (TypeError, ValueError):
        return None
    is_log = numbers.ndim == counts.ndim == 1 and len(numbers) == len(counts)
    return HistoryBuffer(numbers, counts) if is_log and {numbers.dtype.kind, counts.dtype.kind} <= set('biuf') else None


def to_loadable(value, name: str, left_out: list[str]):
    """The plain value of a value of a checkpoint.

    Args:
        value: Any object.
        name: Where in the checkpoint the value is, in words.
        left_out: Names of what has no plain value; this function adds to them.

    Returns:
        Plain values, tensors, lists, tuples and dicts of these; None for what has no plain value.
    """
    if type(value) in PLAIN or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        there = len(left_out)
        items = {}
        for key, one in value.items():
            found = to_loadable(one, f'{name}.{key}', left_out)
            if len(left_out) == there or found is not None:
                items[to_loadable(key, f'{name}.{key}', left_out)] = found
            there = len(left_out)
        return items
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        items = [to_loadable(one, name, left_out) for one in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, np.ndarray):
        numbers = value.tolist()
        return numbers if value.dtype.kind in 'biufcSU' else to_loadable(numbers, name, left_out)
    if isinstance(value, np.generic):
        return to_loadable(value.item(), name, left_out)
    if isinstance(value, Enum):
        return to_loadable(value.value, name, left_out)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    for kind in (str, int, float, bytes):  # Classes of one's own that are these.
        if isinstance(value, kind):
            return kind(value)
    left_out.append(f'{name} ({type(value).__name__})')
    return None
