"""What a model costs: its parameters and the multiply-adds of one image."""

from dataclasses import dataclass

import timm
import torch
from timm.models import is_model_in_modules
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """What one image costs, and what a network offers as a backbone.

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
    """Make a model, without weights, in the form that published figures describe and in evaluation mode.

    Args:
        name: timm name.
        device: Where; on ``meta`` it has shapes only.
        kwargs: Further arguments of ``timm.create_model``.
    """
    if is_model_in_modules(name, ['condensenet']):
        # Which inputs are pruned depends on values, which the meta device has not.
        model = timm.create_model(name, **kwargs).eval()
        model.set_progress(1.0)
        return model.to_group_conv().to(device)
    with torch.device(device):
        return timm.create_model(name, **kwargs).eval()


def count_gmacs(model: torch.nn.Module, size_px: int) -> float:
    """Billions of multiply-adds of one square image.

    On the ``meta`` device this takes no memory and includes attention, which the counter misses on the CPU.
    """
    p = next(model.parameters())
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        model(torch.empty(1, 3, size_px, size_px, device=p.device, dtype=p.dtype))
    return counter.get_total_flops() / 2e9


def count(name: str, **kwargs) -> Cost:
    """Count a model.

    Args:
        name: timm name.
        kwargs: Further arguments of ``timm.create_model``; ``img_size`` is the image's size too, otherwise the default.
    """
    model = build(name, device='meta', **kwargs)
    size_px = kwargs.get('img_size', model.default_cfg['input_size'][-1])
    maps = [(info['reduction'], info['num_chs']) for info in getattr(model, 'feature_info', [])]
    if len(set(maps)) == 1:  # a transformer's maps are all alike
        maps = maps[:1]
    return Cost(
        params=sum(p.numel() for p in model.parameters()) / 1e6,
        gmacs=count_gmacs(model, size_px),
        size_px=size_px,
        strides=tuple(stride for stride, _ in maps),
        channels=tuple(chs for _, chs in maps),
    )
