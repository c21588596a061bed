"""The groups of a timm model's parameters, from the stem on: stages, or layers."""

from typing import Any

from timm.models import group_parameters

__all__ = ['layer_groups']


def layer_groups(network: Any, coarse: bool) -> dict[str, int]:
    """The group of each parameter, counted from 0 for the stem.

    timm's ``group_matcher`` tells, where a model has one. Of CSATv2, MetaFormer, PiT, and of the stages of RDNet, timm
    knows no groups: the modules that ``feature_info`` names are the stages, and each stage is one layer.

    Args:
        network: A timm model.
        coarse: Stages instead of layers.
    """
    if hasattr(network, 'group_matcher'):
        try:
            return group_parameters(network, network.group_matcher(coarse=coarse), reverse=True)
        except AssertionError:  # RDNet has layers only
            pass
    stages = [entry['module'] for entry in network.feature_info]
    groups, latest = {}, 0
    for name, _ in network.named_parameters():
        latest = max((i for i, stage in enumerate(stages, 1) if name.startswith(f'{stage}.')), default=latest)
        groups[name] = latest
    return groups
