"""One pass through a timm model: logits, and the feature maps of chosen layers beside them."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn


def predict(
    network: nn.Module, images: Tensor, layers: Sequence[int] = ()
) -> tuple[Tensor | tuple[Tensor, Tensor], list[Tensor]]:
    """Logits and feature maps in one pass.

    Args:
        network: A timm model.
        images: Normalised images [B, 3, H, W].
        layers: Layers to return, indices of timm's `forward_intermediates`, not negative.

    Returns:
        Logits [B, K], or two of them from a model in training that has a distillation token; and a map [B, C, H', W']
        for each layer.
    """
    if not layers:
        return network(images), []
    wanted = sorted(set(layers))
    features, maps = network.forward_intermediates(images, indices=wanted, output_fmt='NCHW')
    return network.forward_head(features), [maps[wanted.index(layer)] for layer in layers]


def compiled(options: bool | Mapping) -> Callable:
    """`predict` itself, or compiled by `torch.compile` with these options.

    The models stay as they are, and so do the names in their state dicts.
    """
    if options is False:
        return predict
    return torch.compile(predict, **({} if options is True else options))


def layer_channels(network: nn.Module, whose: str) -> list[int]:
    """Channels of each layer that a model's `forward_intermediates` can return.

    Args:
        network: A timm model.
        whose: Names it in the error.

    Raises:
        ValueError: The model has no such method.
    """
    if not hasattr(network, 'forward_intermediates'):
        raise ValueError(
            f'the {whose} {type(network).__name__} gives no feature maps (forward_intermediates); drop feature losses'
        )
    return [layer['num_chs'] for layer in network.feature_info]
