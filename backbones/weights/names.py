"""Find the state dict in a checkpoint, and the names of a network's tensors in it.

What trains or saves a network puts something around it: a container (``state_dict``, ``model``), wrappers for several
devices or for compilation (``module.``, ``_orig_mod.``), modules of its own (``model.``, ``backbone.net.``).
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch

from backbones.weights.stand_ins import Inert

CONTAINERS = (
    'state_dict_ema',
    'model_ema',
    'ema',
    'state_dict',
    'model_state_dict',
    'model',
    'model_state',
    'module',
    'network',
    'net',
    'weights',
    'params',
    'student',
)
"""Keys under which a checkpoint holds a state dict. Averaged weights come first, as in ``timm.create_model``."""

FIRST_PREFIXES = ('ema', 'model_ema', 'ema_model', 'averaged_model', 'student', 'model', 'net', 'backbone', 'encoder')
"""Which weights are meant, if a file has all of a network's twice: averaged ones, as in ``timm.create_model``, and a
student's rather than a teacher's."""

WRAPPERS = {'module', '_orig_mod', '_forward_module', '_fsdp_wrapped_module', '_checkpoint_wrapped_module'}
"""Parts of names that come from ``DataParallel`` and DDP, ``torch.compile``, Lightning's Fabric, FSDP, and gradient
checkpointing; they can stand anywhere in a name."""

COUNTERS = ('n_averaged', 'steps')
"""What torch's and mmengine's averages of a model hold beside the model."""

LAST = len(FIRST_PREFIXES)
"""The rank of prefixes that say nothing about what they stand before."""


def find_weights(content: Any, source: str) -> dict[str, torch.Tensor]:
    """The state dict in the content of a checkpoint.

    Args:
        content: What `read_checkpoint` has read.
        source: Names the checkpoint in the error.

    Raises:
        ValueError: There is none.
    """
    if isinstance(content, Mapping):
        for key in CONTAINERS:
            if isinstance(content.get(key), Mapping):
                try:
                    return find_weights(content[key], source)
                except ValueError:  # This one holds something else.
                    continue
        if models := [v for v in (content.get(key) for key in CONTAINERS) if isinstance(v, Inert)]:
            content = models[0]
    if isinstance(content, Inert):
        raise ValueError(f'{source} holds a whole model ({content.name()}); save what its state_dict() gives')
    weights = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
            value = torch.from_numpy(value)
        if isinstance(key, str) and isinstance(value, torch.Tensor):
            weights[key] = value
        elif not str(key).endswith('_extra_state'):
            raise ValueError(
                f'{source} holds no state dict; expected a dict of tensors by name, and it has '
                f'{first_of(sorted(map(str, content)))}'
            )
    if not weights and content != {}:
        raise ValueError(f'{source} holds no state dict, but a {type(content).__name__}')
    return weights


def unwrap_names(
    weights: Mapping[str, torch.Tensor], names: Collection[str], source: str
) -> tuple[dict[str, torch.Tensor], str]:
    """Tensors under the names that a network has, where wrappers around that network are all the difference.

    A wrapper is a part in the middle of names (``WRAPPERS``), or a prefix of any number of parts: ``model.``,
    ``backbone.net.``, ``student.``. What does not have the prefix, such as the head of a detector, is left out.

    Args:
        weights: Tensors by name.
        names: Names of the network's tensors.
        source: Names the weights in the error.

    Returns:
        The tensors, and what was taken off their names, in words. If no prefix gives all of the names, the tensors are
        those of the prefix that gives most of them, or all where that is less than half.

    Raises:
        ValueError: Several prefixes give all of the names, and none of them says which is meant.
    """
    own = set(names)
    wrappers = WRAPPERS - {part for name in own for part in name.split('.')}
    kept = [name for name in weights if name in own or name not in COUNTERS]
    bare = {'.'.join(part for part in name.split('.') if part not in wrappers): name for name in kept}
    if len(bare) < len(kept):  # Two names would be one: an average beside what is averaged.
        bare = {name: name for name in kept}
    counts: Counter[str] = Counter()
    for name in bare:
        parts = name.split('.')
        for start in range(len(parts)):
            if '.'.join(parts[start:]) in own:
                counts[''.join(f'{part}.' for part in parts[:start])] += 1

    def rank(prefix: str) -> int:
        if not prefix:
            return -1
        return min(FIRST_PREFIXES.index(p) if p in FIRST_PREFIXES else LAST for p in prefix.split('.'))

    prefix = min(counts, key=lambda prefix: (-counts[prefix], rank(prefix), len(prefix), prefix), default='')
    rivals = sorted(other for other in counts if counts[other] == counts[prefix] and rank(other) == rank(prefix))
    if counts[prefix] == len(own) and rank(prefix) == LAST and len(rivals) > 1:
        raise ValueError(f'{source} has all weights several times, under {first_of(rivals)}; keep those that are meant')
    if 2 * counts[prefix] < len(own):
        prefix = ''
    removed = {part for new, old in bare.items() if new != old for part in old.split('.')} & wrappers
    chosen = {name.removeprefix(prefix): weights[old] for name, old in bare.items() if name.startswith(prefix)}
    return chosen, ' and '.join([f"'{part}.'" for part in sorted(removed)] + ([f"'{prefix}'"] if prefix else []))


def first_of(names: list[str], count: int = 3) -> str:
    """List the first of many names for a message."""
    return ', '.join(names[:count]) + (', …' if len(names) > count else '')
