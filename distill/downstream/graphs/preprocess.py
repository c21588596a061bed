"""What happens to an image inside of an exported detector or segmenter, before the network sees it."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

UINT8, FLOAT32 = 'uint8', 'float32'


class Preprocess(nn.Module):
    """Normalise an image as the data preprocessor of mmdet or mmseg does, and add zeros right and below.

    The channels of an exported graph are R, G, B, whatever the network wants.

    Args:
        mean: Mean of each channel, R, G, B, of values in 0 to 255.
        std: Standard deviation of each channel, likewise.
        divisor: Divides height and width of what the network sees.
        dtype: ``uint8`` for images as they are decoded, ``float32`` for images that are normalised outside.
        bgr: Whether the network takes B, G, R.
        canvas: Height and width of what the network sees, for networks that take one size only; in place of
            ``divisor``. Larger images are an error of the engine that runs the graph.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        divisor: int,
        dtype: str,
        bgr: bool = False,
        canvas: tuple[int, int] | None = None,
    ):
        super().__init__()
        self.divisor, self.dtype, self.bgr, self.canvas = divisor, dtype, bgr, canvas
        self.register_buffer('mean', torch.tensor(mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer('std', torch.tensor(std, dtype=torch.float32).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Prepare images.

        Args:
            images: R, G, B [B, 3, H, W], of ``dtype``.

        Returns:
            What the network sees [B, 3, H', W'].
        """
        height, width = images.shape[-2:]
        if self.dtype == UINT8:
            images = (images.float() - self.mean) / self.std
        if self.bgr:
            images = images.flip(1)
        # Without a branch on the size, which would be fixed by it.
        if self.canvas is None:
            return F.pad(images, (0, _whole(width, self.divisor) - width, 0, _whole(height, self.divisor) - height))
        # Padding would cut an image that is larger; there is no tensor of negative size.
        rows, columns = self.canvas
        images = torch.cat([images, images.new_zeros(*images.shape[:2], rows - height, width)], 2)
        return torch.cat([images, images.new_zeros(*images.shape[:2], rows, columns - width)], 3)


def preprocess_of(network: Any, dtype: str, canvas: tuple[int, int] | None = None) -> Preprocess:
    """The preprocessing of a detector or segmenter.

    Args:
        network: The model, with its ``data_preprocessor``.
        dtype: ``uint8`` or ``float32``.
        canvas: The one size that the network takes, or None if it takes any.

    Raises:
        ValueError: The data preprocessor does something that a graph does not.
    """
    own = network.data_preprocessor
    settings = getattr(own, 'test_cfg', None) or {}
    divisor = int(settings.get('size_divisor') or getattr(own, 'pad_size_divisor', None) or 1)
    if settings.get('size'):
        canvas = canvas or tuple(settings['size'])
    swaps = bool(getattr(own, 'channel_conversion', getattr(own, '_channel_conversion', False)))
    value = getattr(own, 'pad_value', getattr(own, 'pad_val', 0))
    if not getattr(own, '_enable_normalize', False) or own.mean.numel() != 3:
        raise ValueError('the data_preprocessor of the config normalises no R, G, B; give it mean and std of 3 numbers')
    if value:
        raise ValueError(f'the data_preprocessor of the config pads with {value}; a graph pads with 0 only')
    # Files are decoded to B, G, R. A network without a conversion has its mean and std in that order.
    mean, std = (statistic.flatten().tolist() for statistic in (own.mean, own.std))
    if not swaps:
        mean, std = mean[::-1], std[::-1]
    return Preprocess(mean, std, divisor, dtype, bgr=not swaps, canvas=canvas)


def _whole(size: int, divisor: int) -> int:
    return (size + divisor - 1) // divisor * divisor
