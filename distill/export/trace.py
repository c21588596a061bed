"""Traces what is exported, with as many axes of any size as torch can."""

from typing import Any

import torch

from backbones.checkpoint import fixed_size
from backbones.loading import LoadedModel
from distill.engines import Dynamic, Names
from distill.engines.tracing import exported_program
from distill.export.deploy import Deployed
from distill.export.files import Wish
from distill.export.images import synthetic

INPUT = 'images'
AXES = {0: 'batch', 2: 'height', 3: 'width'}
PADS_BY_SIZE = 'Same'
"""How the names of timm's layers with TensorFlow's padding end."""


def trace(loaded: LoadedModel, deployed: Deployed, wish: Wish) -> tuple[Any, Dynamic, str]:
    """The network as torch's exported program, its axes of any size, and why others cannot be: what can be is tried."""
    wanted = {axis: label for axis, label in AXES.items() if axis or wish.batch is None}
    reason = _why_fixed(loaded, deployed, wish)
    if reason:
        wanted = {axis: label for axis, label in wanted.items() if not axis}
    tries = [wanted, {axis: label for axis, label in wanted.items() if not axis}, {}]
    for axes in (one for index, one in enumerate(tries) if one not in tries[:index]):
        dynamic = {INPUT: axes}
        shown = example(deployed, bool(axes), wish.batch)
        try:
            program = exported_program(deployed.network, (shown,), Names((INPUT,), deployed.outputs), dynamic)
        except ValueError as error:
            reason, last = str(error), error
        else:
            return program, dynamic, reason
    raise ValueError(f"'{loaded.source}' cannot be exported: {last}")


def _why_fixed(loaded: LoadedModel, deployed: Deployed, wish: Wish) -> str:
    """Why an artefact takes images of one size, or nothing."""
    if wish.fixed_size:
        return 'as was asked for'
    if fixed_size(loaded.network) is not None:
        return 'the model takes one size'
    # torch spends minutes on the formulas of such padding.
    kinds = [type(one).__name__ for one in deployed.network.modules()]
    padding = [kind for kind in kinds if kind.endswith(PADS_BY_SIZE)]
    return f'{padding[0]} pads by the size of the image' if padding else ''


def example(deployed: Deployed, is_dynamic: bool, batch: int | None) -> torch.Tensor:
    """Images to trace with. torch takes a size of 1 for one that stays, so that a batch of any size has two."""
    count = batch or (2 if is_dynamic else 1)
    return torch.from_numpy(synthetic(count, deployed.size)).to(getattr(torch, deployed.dtype))
