"""From the batch that a student sees to the batch that its teacher sees, with the teacher's own preprocessing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Preprocessing:
    """What a preprocessor of mmengine, mmdet or mmseg does to images once they are loaded.

    Attributes:
        mean: Per channel, in the order that the network takes; empty where nothing is subtracted.
        std: Per channel.
        swaps: Whether blue and red, as they are loaded, change places.
        divisor: Height and width of the padded batch are multiples of it.
        pad: Value of the padding, which is put there after the normalisation.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    swaps: bool = False
    divisor: int = 1
    pad: float = 0.0

    @classmethod
    def of(cls, preprocessor: nn.Module | None) -> 'Preprocessing':
        """Read the settings off a ``data_preprocessor``."""
        mean, std = (
            tuple(getattr(preprocessor, name).flatten().tolist())
            if getattr(preprocessor, '_enable_normalize', False)
            else ()
            for name in ('mean', 'std')
        )
        swaps = getattr(preprocessor, '_channel_conversion', getattr(preprocessor, 'channel_conversion', False))
        divisor = getattr(preprocessor, 'pad_size_divisor', None) or getattr(preprocessor, 'size_divisor', None) or 1
        pad = getattr(preprocessor, 'pad_value', getattr(preprocessor, 'pad_val', 0))
        return cls(mean, std, bool(swaps), int(divisor), float(pad))


class ForTeacher(nn.Module):
    """Undo a student's normalisation, order of channels and padding, and do its teacher's.

    Where both preprocess alike, the teacher sees the very tensor that the student sees. Images are never resized.

    Args:
        student: The student's ``data_preprocessor``.
        teacher: The teacher's.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, student: nn.Module, teacher: nn.Module):
        super().__init__()
        mine, its = Preprocessing.of(student), Preprocessing.of(teacher)
        channels = max(len(mine.mean), len(its.mean), 1)
        mean, std, own_mean, own_std = (
            torch.tensor(values or [default], dtype=torch.float64).expand(channels)
            for values, default in ((mine.mean, 0.0), (mine.std, 1.0), (its.mean, 0.0), (its.std, 1.0))
        )
        self.swaps = mine.swaps != its.swaps
        if self.swaps:
            mean, std = mean.flip(0), std.flip(0)
        self.same_values = not self.swaps and torch.equal(mean, own_mean) and torch.equal(std, own_std)
        self.same_padding = mine.pad == its.pad
        self.divisor, self.pad = its.divisor, its.pad
        # (x · std + mean − own_mean) / own_std, rounded once.
        self.register_buffer('scale', (std / own_std).float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer('shift', ((mean - own_mean) / own_std).float().view(1, -1, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, inputs: Tensor, samples: Sequence[Any]) -> tuple[Tensor, list]:
        """The teacher's batch.

        Args:
            inputs: The student's batch [N, 3, H, W], padded at the right and at the bottom.
            samples: Data samples with the ``img_shape`` of each image before it was padded.

        Returns:
            The batch, as large or larger, and the samples, whose ``batch_input_shape`` is the teacher's.
        """
        height, width = inputs.shape[-2:]
        shape = tuple(-(-side // self.divisor) * self.divisor for side in (height, width))
        if self.same_values and self.same_padding and shape == (height, width):
            return inputs, list(samples)
        x = inputs.flip(1) if self.swaps else inputs
        x = x.clone() if self.same_values else torch.addcmul(self.shift, x, self.scale)
        for image, sample in zip(x, samples, strict=True):
            bottom, right = sample.metainfo.get('img_shape', (height, width))[:2]
            image[:, bottom:] = self.pad
            image[:, :, right:] = self.pad
        if shape == (height, width):
            return x, list(samples)
        x = F.pad(x, (0, shape[1] - width, 0, shape[0] - height), value=self.pad)
        padded = [sample.new() for sample in samples]
        for sample in padded:
            sample.set_metainfo(dict(batch_input_shape=shape, pad_shape=shape))
        return x, padded
