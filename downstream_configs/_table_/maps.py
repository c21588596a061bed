"""What timm's models tell about themselves: channels and strides of their maps, how their inputs are normalised."""

import functools
from typing import NamedTuple

import timm
import torch

from backbones.openmmlab import TimmBackbone
from downstream_configs._table_.backbones import BACKBONES, Backbone

__all__ = ['Maps', 'maps_of', 'model_of', 'normalisation_of', 'options_of']

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Maps(NamedTuple):
    """A backbone's feature maps.

    Attributes:
        channels: Channels of each map.
        strides: Stride of each map, in pixels of the input.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]


def model_of(backbone: Backbone) -> str:
    """Return timm's name of the model, which a variant shares with the plain backbone."""
    return model_of(BACKBONES[backbone.plain]) if backbone.plain else backbone.model


def options_of(backbone: Backbone) -> dict:
    """Return the arguments of `TimmBackbone` in a fragment, beside the model and the strides."""
    if backbone.plain:
        return {**options_of(BACKBONES[backbone.plain]), **backbone.options}
    return {**backbone.options, 'out_indices': backbone.blocks[-1:]} if backbone.blocks else backbone.options


def maps_of(backbone: Backbone, **more) -> Maps:
    """Read the maps of a backbone off its `feature_info`, without weights or storage.

    Args:
        backbone: A row of the table.
        **more: Further arguments of `TimmBackbone`, or others instead of the row's.

    Raises:
        ValueError: timm's model does not take the row's arguments.
    """
    options = {**options_of(backbone), **more}
    try:
        return _maps(model_of(backbone), tuple(sorted(options.items())))
    except ValueError as error:
        hint = '; without output_stride, say dilates=False' if 'output_stride' in more else ''
        raise ValueError(f'row {backbone.name!r} of the table of backbones: {error}{hint}') from error


@functools.cache
def _maps(model: str, options: tuple) -> Maps:
    with torch.device('meta'):
        built = TimmBackbone(model, **dict(options))
    return Maps(built.channels, built.strides)


def normalisation_of(backbone: Backbone) -> dict[str, list[float]]:
    """Return mean and deviation that timm's weights want, in values from 0 to 255; nothing if they are ImageNet's."""
    model = model_of(backbone)
    expected = timm.get_pretrained_cfg(model)
    if '.' not in model or (expected.mean, expected.std) == IMAGENET:
        return {}
    return {name: [255 * value for value in getattr(expected, name)] for name in ('mean', 'std')}
