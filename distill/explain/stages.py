"""The outputs of a model's stages, for any model that has timm's ``forward_intermediates``."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def stage_features(network: nn.Module, images: Tensor, indices: Sequence[int] | None = None) -> list[Tensor]:
    """The output of each stage; the stages of a transformer are its blocks, without class and other extra tokens.

    Args:
        network: A timm model.
        images: Normalised images [B, 3, H, W].
        indices: Numbers of the stages; None takes all.

    Returns:
        Features [B, C, H', W'] of each stage, before any final normalisation.

    Raises:
        ValueError: The model has no ``forward_intermediates``.
    """
    if not hasattr(network, 'forward_intermediates'):
        raise ValueError(f"{type(network).__name__} has no forward_intermediates; choose a model of timm's that has it")
    indices = None if indices is None else list(indices)
    return network.forward_intermediates(images, indices=indices, intermediates_only=True)


@torch.no_grad()
def stage_names(network: nn.Module, image: Tensor) -> list[str]:
    """The names of the stages: their modules by the model's ``feature_info``, or their numbers.

    Args:
        network: A timm model.
        image: Any image that the model takes [1, 3, H, W].
    """
    count = len(stage_features(network, image))
    modules = [info['module'] for info in getattr(network, 'feature_info', ())]
    return modules if len(modules) == count else [f'stage {index}' for index in range(count)]


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of ``count`` indices, evenly spread; the last index is among them."""
    wanted = min(wanted, count)
    return [round((index + 1) * count / wanted) - 1 for index in range(wanted)]
