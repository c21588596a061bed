"""OpenMMLab's names of tensors that timm has under other names: stems of ResNets, and classifiers of mmpretrain."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

HEADS = ('head.fc.', 'head.layers.head.')
"""Beginnings of the names of mmpretrain's linear classifiers."""

DEEP_STEM = {
    **{f'stem.{index}.': f'conv1.{index}.' for index in (0, 1, 3, 4, 6)},
    'stem.7.': 'bn1.',
    **{f'stem.{index}.conv.': f'conv1.{3 * index}.' for index in range(3)},
    **{f'stem.{index}.bn.': f'conv1.{3 * index + 1}.' for index in range(2)},
    'stem.2.bn.': 'bn1.',
}
"""The three convolutions at the beginning of a ResNet-C or -D: mmdet's and mmseg's names, mmpretrain's, and timm's."""


def timms_names(weights: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Give OpenMMLab's ResNets timm's names, where the network has these and not the others.

    Args:
        weights: Tensors by name.
        names: Names of the network's tensors.
    """
    renamed = {}
    for name, value in weights.items():
        new = name.replace('.se_layer.conv1.conv.', '.se.fc1.').replace('.se_layer.conv2.conv.', '.se.fc2.')
        stem = re.match(r'stem\.\d\.((conv|bn)\.)?', name)
        if stem is not None and 'conv1.6.weight' in names:
            new = DEEP_STEM.get(stem[0], stem[0]) + name[stem.end() :]
        shortcut = re.match(r'(.*\.downsample)\.([01])\.(.*)', name)
        # mmpretrain averages nothing, and has no layer for that, in front of a shortcut of stride 1.
        if shortcut is not None and f'{shortcut[1]}.0.weight' not in names and f'{shortcut[1]}.2.weight' not in weights:
            new = f'{shortcut[1]}.{int(shortcut[2]) + 1}.{shortcut[3]}'
        renamed[name if name in names and new not in names else new] = value
    return renamed


def find_head(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """The classifier of mmpretrain's, under the names that a network has for its own.

    Args:
        weights: All tensors of the checkpoint by name.
        network: A timm model with a classifier.

    Returns:
        The tensors; none if the checkpoint has no such classifier, or the network does more than average the map and
        multiply, so that the classifier would stand in another place.
    """
    names = classifier_names(network)
    if len(names) != 2 or not _classifies_the_average(network):
        return {}
    for head in HEADS:
        found = {name: weights.get(head + name.rpartition('.')[2]) for name in names}
        if all(value is not None for value in found.values()):
            return {name: value for name, value in found.items() if value is not None}
    return {}


def classifier_names(network: nn.Module) -> list[str]:
    """Names of the tensors of a network's classifier; of several, of all."""
    config: Any = getattr(network, 'pretrained_cfg', None) or {}
    classifier = config.get('classifier') or ()
    heads = tuple(f'{one}.' for one in ((classifier,) if isinstance(classifier, str) else classifier))
    return [name for name in network.state_dict() if name.startswith(heads)] if heads else []


@torch.no_grad()
def _classifies_the_average(network: Any) -> bool:
    """Whether the head of a network is one linear layer on the average of the last map, as mmpretrain's is."""
    classifier = getattr(network, 'get_classifier', lambda: None)()
    if not isinstance(classifier, nn.Linear) or not hasattr(network, 'forward_head'):
        return False
    was_training = network.training
    network.eval()
    maps = torch.rand(2, network.num_features, 3, 3, generator=torch.Generator().manual_seed(0))
    try:
        found = network.forward_head(maps)
        return torch.allclose(found, classifier(maps.mean((2, 3))), atol=1e-5)
    except (RuntimeError, AttributeError, IndexError):
        return False
    finally:
        network.train(was_training)
