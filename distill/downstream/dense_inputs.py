"""From the batch that a student sees to the batch that its teacher sees, with the teacher's own preprocessing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLEAN = 'clean'
"""Field of a data sample with the image [3, h, w] that the teacher sees in place of the student's view of it: as it was
loaded, uint8, of the same geometry."""


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

    Where both preprocess alike, the teacher sees the very tensor that the student sees. Images are never resized. Where
    the samples have a field ``clean``, the teacher sees these images, at the student's place in the padded batch.

    Args:
        student: The student's ``data_preprocessor``.
        teacher: The teacher's.
    """

    mean: Tensor
    std: Tensor
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
        self.swaps, self.swaps_loaded = mine.swaps != its.swaps, its.swaps
        if self.swaps:
            mean, std = mean.flip(0), std.flip(0)
        self.same_values = not self.swaps and torch.equal(mean, own_mean) and torch.equal(std, own_std)
        self.same_padding = mine.pad == its.pad
        self.divisor, self.pad = its.divisor, its.pad
        # (x · std + mean − own_mean) / own_std, rounded once.
        self.register_buffer('mean', own_mean.float().view(-1, 1, 1), persistent=False)
        self.register_buffer('std', own_std.float().view(-1, 1, 1), persistent=False)
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

        Raises:
            ValueError: A clean image is larger than the batch.
        """
        height, width = inputs.shape[-2:]
        shape = tuple(-(-side // self.divisor) * self.divisor for side in (height, width))
        if samples and CLEAN in samples[0]:
            return self._padded(self._of_clean(inputs, samples), samples, shape)
        if self.same_values and self.same_padding and shape == (height, width):
            return inputs, list(samples)
        x = inputs.flip(1) if self.swaps else inputs
        x = x.clone() if self.same_values else torch.addcmul(self.shift, x, self.scale)
        for image, sample in zip(x, samples, strict=True):
            bottom, right = sample.metainfo.get('img_shape', (height, width))[:2]
            image[:, bottom:] = self.pad
            image[:, :, right:] = self.pad
        return self._padded(x, samples, shape)

    def _of_clean(self, inputs: Tensor, samples: Sequence[Any]) -> Tensor:
        """The batch of clean images, preprocessed as the teacher's own preprocessor does it."""
        x = inputs.new_full(inputs.shape, self.pad)
        for place, sample in zip(x, samples, strict=True):
            image = sample.get(CLEAN).to(inputs.device)
            height, width = image.shape[-2:]
            if height > place.shape[1] or width > place.shape[2]:
                raise ValueError(
                    f'the clean image is {height}x{width} and the batch {place.shape[1]}x{place.shape[2]} (height x '
                    'width): the student sees another geometry; drop batch_augments of data_preprocessor'
                )
            image = (image.flip(0) if self.swaps_loaded else image).float()
            place[:, :height, :width] = (image - self.mean) / self.std
        return x

    def _padded(self, x: Tensor, samples: Sequence[Any], shape: tuple[int, int]) -> tuple[Tensor, list]:
        """The batch, filled up to a height and width, and samples that say so."""
        height, width = x.shape[-2:]
        if shape == (height, width):
            return x, list(samples)
        x = F.pad(x, (0, shape[1] - width, 0, shape[0] - height), value=self.pad)
        padded = [sample.new() for sample in samples]
        for sample in padded:
            sample.set_metainfo(dict(batch_input_shape=shape, pad_shape=shape))
        return x, padded
