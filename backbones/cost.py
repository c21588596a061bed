"""The cost of a model: parameters, and multiply-adds of one image."""

from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.models import is_model_in_modules
from torch.utils.flop_counter import FlopCounterMode

from backbones.meta import ShapesOnly, without_storage


@dataclass(frozen=True)
class Cost:
    """Cost of a model for one image, and the feature maps that it offers as a backbone.

    Attributes:
        params: Millions of parameters.
        gmacs: Billions of multiply-adds.
        size_px: Side of the image.
        strides: Stride of each feature map.
        channels: Channels of each feature map.
    """

    params: float
    gmacs: float
    size_px: int
    strides: tuple[int, ...]
    channels: tuple[int, ...]


def build(name: str, device: str = 'cpu', **kwargs) -> torch.nn.Module:
    """Build a model without weights, in evaluation mode and in the form that published figures describe.

    Args:
        name: timm name.
        device: Device of the model; on ``meta`` it has shapes only.
        kwargs: Further arguments of ``timm.create_model``.
    """
    if is_model_in_modules(name, ['condensenet']):
        # Values decide which inputs are pruned, and the meta device has no values.
        model = timm.create_model(name, **kwargs).eval()
        model.set_progress(1.0)
        return model.to_group_conv().to(device)
    with without_storage() if device == 'meta' else torch.device(device):
        return timm.create_model(name, **kwargs).eval()


def count_gmacs(model: torch.nn.Module, size_px: int, in_chs: int = 3) -> float:
    """Billions of multiply-adds of one square image or map.

    On the ``meta`` device this takes no memory and includes attention, which the counter misses on the CPU.

    Args:
        model: Any model or layer of images or maps.
        size_px: Side of the image.
        in_chs: Channels of the image.
    """
    like = next(model.parameters())
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), ShapesOnly(), counter:
        model(torch.empty(1, in_chs, size_px, size_px, device=like.device, dtype=like.dtype))
    return counter.get_total_flops() / 2e9


def measure(model: Any, size_px: int) -> Cost:
    """Count the parameters and multiply-adds of a model that is built.

    Args:
        model: A timm model.
        size_px: Side of the image.
    """
    maps = [(info['reduction'], info['num_chs']) for info in getattr(model, 'feature_info', [])]
    if len(set(maps)) == 1:  # all maps of a plain transformer are alike
        maps = maps[:1]
    return Cost(
        params=sum(p.numel() for p in model.parameters()) / 1e6,
        gmacs=count_gmacs(model, size_px),
        size_px=size_px,
        strides=tuple(stride for stride, _ in maps),
        channels=tuple(chs for _, chs in maps),
    )


def count(name: str, **kwargs) -> Cost:
    """Count the parameters and multiply-adds of a model by name.

    Args:
        name: timm name.
        kwargs: Further arguments of ``timm.create_model``. The image has the model's default size, or ``img_size``.
    """
    model: Any = build(name, device='meta', **kwargs)
    return measure(model, kwargs.get('img_size', model.default_cfg['input_size'][-1]))
