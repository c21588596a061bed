"""From a batch of decoded views to what a model sees, replayed bit for bit."""

import contextlib
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from timm.data import Mixup
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.mixup import cutmix_bbox_and_lam, one_hot
from timm.data.random_erasing import RandomErasing
from torch import Tensor


@MODELS.register_module()
class ViewPreprocessor(BaseDataPreprocessor):
    """Normalise, then in training erase and mix, on the device: one tensor for teacher and student alike.

    Erasing, and mixing with ``mode='pair'``, follow from the seeds of the views alone: not from the device, the rest
    of the batch or the iteration. timm's modes ``batch`` and ``elem`` mix an image with whatever the batch has at its
    other end, by the generators of the run.

    Args:
        mean: Per channel, of values in [0, 1].
        std: Per channel, of values in [0, 1].
        random_erasing: Probability of timm's random erasing, with per-pixel noise.
        mixup: Arguments of timm's `Mixup`; ``num_classes`` among them. The labels become probabilities. With
            ``mode='pair'`` see `mix_pairs`.
        channels_last: Memory format of the result.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
        std: Sequence[float] = IMAGENET_DEFAULT_STD,
        random_erasing: float = 0.0,
        mixup: dict | None = None,
        channels_last: bool = True,
    ):
        super().__init__(non_blocking=True)
        self.register_buffer('mean', torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer('std', torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.random_erasing = random_erasing
        self.mixup = Mixup(**mixup) if mixup else None
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, data: Sequence[Tensor], training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: Collated items of `distill.data.Views`: views [B, 3, H, W] in uint8, labels, indices, view numbers
                and seeds, [B] each. The last three may be left out if nothing is erased or mixed in pairs.
            training: Erase and mix.

        Returns:
            ``images``: normalised [B, 3, H, W]; ``targets``: labels [B], or probabilities [B, K] if mixed; ``keys``:
            index and view [B, 2] on the CPU, or None.

        Raises:
            ValueError: The batch does not consist of pairs, and pairs are mixed.
        """
        # Keys and seeds stay on the CPU, where they are needed.
        images, targets = self.cast_data(list(data[:2]))
        keys, seeds = (torch.stack(list(data[2:4]), dim=1), data[4]) if len(data) > 2 else (None, None)
        images = images.to(memory_format=self.memory_format).float().div_(255).sub_(self.mean).div_(self.std)
        if training:
            images, targets = self._augment(images, targets, keys, seeds)
        return dict(images=images, targets=targets, keys=keys)

    def _augment(self, images: Tensor, targets: Tensor, keys: Tensor | None, seeds: Tensor | None):
        pairs = self.mixup is not None and self.mixup.mode == 'pair'
        if seeds is None and (pairs or self.random_erasing):
            raise ValueError('random erasing and mixup mode pair need the seeds of the views; load them by `Views`')
        if self.mixup is not None and len(images) % 2:
            raise ValueError(f'a batch of {len(images)} cannot be mixed in pairs; set an even batch_size and drop_last')
        if self.random_erasing:
            erase(RandomErasing(self.random_erasing, mode='pixel', device='cpu'), images, seeds)
        if pairs:
            if not torch.equal(keys[0::2, 1], keys[1::2, 1]):
                raise ValueError('neighbours in the batch are no partners; let a ViewSampler deal them')
            return mix_pairs(self.mixup, images, targets, seeds)
        return (images, targets) if self.mixup is None else self.mixup(images, targets)

    def describe(self) -> dict:
        """What decides the images, in plain values.

        Raises:
            ValueError: Mixing depends on more than the views.
        """
        mixup = self.mixup
        if mixup is not None and mixup.mode != 'pair':
            raise ValueError(
                f"mixup mode '{mixup.mode}' depends on the batch and cannot be replayed; "
                'set model.data_preprocessor.mixup.mode=pair'
            )
        options = ('mixup_alpha', 'cutmix_alpha', 'cutmix_minmax', 'mix_prob', 'switch_prob', 'correct_lam')
        return {
            'mean': [round(value, 6) for value in self.mean.flatten().tolist()],
            'std': [round(value, 6) for value in self.std.flatten().tolist()],
            'random_erasing': self.random_erasing,
            'mixup': {name: getattr(mixup, name) for name in options} if mixup is not None else None,
        }


@contextlib.contextmanager
def kept_generators() -> Iterator[None]:
    """Leave the generators of Python, numpy and torch's CPU as they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def erase(erasing: RandomErasing, images: Tensor, seeds: Tensor) -> None:
    """Erase in place, each image by its own seed.

    Args:
        erasing: timm's, with noise drawn on the CPU: an accelerator's generator draws other numbers.
        images: Normalised [B, 3, H, W].
        seeds: Seeds of the views [B].
    """
    with kept_generators():
        for image, seed in zip(images, seeds.tolist(), strict=True):
            random.seed(seed)
            torch.default_generator.manual_seed(seed)
            erasing(image)


def mix_pairs(mixup: Mixup, images: Tensor, labels: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Mixup or cutmix between images 2k and 2k + 1, both with the same λ or box.

    Differs from timm's mode ``pair`` in the partners, which there are the first and the last of the batch, and in
    the source of randomness: λ and box follow from the seed of image 2k.

    Args:
        mixup: timm's, whose settings and functions are used.
        images: Normalised [B, 3, H, W], B even.
        labels: [B].
        seeds: Seeds of the views [B].

    Returns:
        Mixed images, in the memory format of ``images``, and probabilities [B, K].
    """
    device, (height, width) = images.device, images.shape[-2:]
    shares, boxes, lams = [], [], []
    with kept_generators():
        for seed in seeds[::2].tolist():
            np.random.seed(seed % 2**32)
            lam, cut = mixup._params_per_batch()
            share, box = lam, (0, 0, 0, 0)
            if cut:
                box, lam = cutmix_bbox_and_lam(images.shape, lam, mixup.cutmix_minmax, mixup.correct_lam)
                share = 1.0
            shares.append(share)
            boxes.append([int(edge) for edge in box])
            lams.append(float(lam))

    def per_image(values: list) -> Tensor:
        return torch.tensor(values, device=device).repeat_interleave(2, dim=0)

    top, bottom, left, right = per_image(boxes).T[..., None, None, None]
    rows, columns = torch.arange(height, device=device).view(-1, 1), torch.arange(width, device=device)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    own = torch.where(inside, 0.0, per_image(shares).view(-1, 1, 1, 1))
    mixed = partners(images).lerp_(images, own)

    smoothing = mixup.label_smoothing / mixup.num_classes
    targets = one_hot(labels, mixup.num_classes, 1 - mixup.label_smoothing + smoothing, smoothing)
    return mixed, partners(targets).lerp_(targets, per_image(lams).view(-1, 1))


def partners(values: Tensor) -> Tensor:
    """A copy of [B, …] in which 2k and 2k + 1 have changed places."""
    return values.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
