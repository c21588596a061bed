"""One pass through a timm model that gives logits, and the feature maps of chosen layers beside them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor


class TimmModel(Protocol):
    """The part of timm's contract for models that this module calls."""

    feature_info: Iterable[Mapping]

    def __call__(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]: ...

    def forward_head(self, features: Tensor) -> Tensor | tuple[Tensor, Tensor]: ...

    def forward_intermediates(
        self, images: Tensor, *, indices: Sequence[int], output_fmt: str
    ) -> tuple[Tensor, list[Tensor]]: ...


def predict(
    network: TimmModel, images: Tensor, layers: Sequence[int] = ()
) -> tuple[Tensor | tuple[Tensor, Tensor], list[Tensor]]:
    """Compute logits and feature maps in one pass.

    Args:
        network: A timm model.
        images: Normalised images [B, 3, H, W].
        layers: Layers whose maps are wanted, as indices of timm's `forward_intermediates`, not negative.

    Returns:
        Logits [B, K], or a pair of them from a model in training that has a distillation token; and a map
        [B, C, H', W'] for each layer.
    """
    if not layers:
        return network(images), []
    wanted = sorted(set(layers))
    features, maps = network.forward_intermediates(images, indices=wanted, output_fmt='NCHW')
    return network.forward_head(features), [maps[wanted.index(layer)] for layer in layers]


def compiled(options: bool | Mapping) -> Callable:
    """Compile `predict`, or return it as it is.

    The function is compiled and not the models, whose state dicts so keep their names.

    Args:
        options: Whether to compile, or arguments of `torch.compile`.
    """
    if options is False:
        return predict
    return torch.compile(predict, **({} if options is True else options))


def layer_channels(network: TimmModel, whose: str) -> list[int]:
    """Count the channels of each layer that a model's `forward_intermediates` can return.

    Args:
        network: A timm model.
        whose: ``student`` or ``teacher``, for the error.

    Raises:
        ValueError: The model has not all of timm's contract that this takes.
    """
    missing = [name for name in ('forward_intermediates', 'forward_head', 'feature_info') if not hasattr(network, name)]
    if missing:
        raise ValueError(
            f'the {whose} {type(network).__name__} gives no feature maps ({missing[0]}); drop feature losses'
        )
    return [layer['num_chs'] for layer in network.feature_info]
