"""Brightness, contrast and saturation on tensors, in doubles as scikit-image and NumPy compute them."""

from collections.abc import Callable

import torch
from torch import Tensor

from distill.corruptions.tensors.arithmetic import divide


def _change_hsv(x: Tensor, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Convert to HSV, apply `change` to saturation and value, and convert back, see `distill.corruptions.digital`.

    A rounding error may decide about a level, hence the same steps.
    """
    red, green, blue = divide(x.double(), 255).unbind(1)
    value, least = torch.maximum(torch.maximum(red, green), blue), torch.minimum(torch.minimum(red, green), blue)
    spread = value - least
    grey = spread == 0
    divisor = spread + grey
    hue = (green - blue) / divisor
    hue = torch.where(green == value, 2 + (blue - red) / divisor, hue)
    hue = torch.where(blue == value, 4 + (red - green) / divisor, hue)
    hue = divide(hue.masked_fill_(grey, 0), 6)
    hue += hue < 0
    saturation, new_value = change(spread / (value + (value == 0)), value)
    hue *= 6
    sixth = hue.floor()
    hue -= sixth
    hue = torch.where(sixth % 2 == 0, 1 - hue, hue)
    high, middle, low = (
        (255 * level.clamp(0, 1)).byte().unsqueeze(1)
        for level in (new_value, new_value * (1 - hue * saturation), new_value * (1 - saturation))
    )
    out = torch.where(x == x.amax(1, keepdim=True), high, middle)
    out = torch.where(x == x.amin(1, keepdim=True), low, out)
    # The hue of grey is that of red.
    out[:, 0] = torch.where(grey, high[:, 0], out[:, 0])
    return out


def brightness(x: Tensor, added: float) -> Tensor:
    """Add `added` to the value of HSV."""
    return _change_hsv(x, lambda saturation, value: (saturation, (value + added).clamp(max=1)))


def saturate(x: Tensor, constants: tuple[float, float]) -> Tensor:
    """Scale and shift the saturation of HSV."""
    factor, shift = constants
    return _change_hsv(x, lambda saturation, value: ((saturation * factor + shift).clamp(max=1), value))


def contrast(x: Tensor, factor: float) -> Tensor:
    """Scale the difference from the mean of each channel by `factor`."""
    height, width = x.shape[2:]
    # OpenCV multiplies the sum.
    mean = divide(x.sum(dim=(2, 3), keepdim=True, dtype=torch.int64).double() * (1 / (height * width)), 255)
    level = (divide(x.double(), 255) - mean) * factor
    return ((level + mean).clamp_(0, 1) * 255).byte()
