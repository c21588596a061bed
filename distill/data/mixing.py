"""Erase and mix views by their seeds alone."""

import random

import numpy as np
import torch
from timm.data import Mixup
from timm.data.mixup import cutmix_bbox_and_lam, one_hot
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from distill.base.devices import to_device
from distill.base.seeding import kept_generators


class _Patches:
    """An image for timm's erasing that only keeps what is written into it.

    Args:
        image: The image that is meant [3, H, W].
    """

    def __init__(self, image: Tensor):
        self.image, self.dtype = image, image.dtype
        self.written: list[tuple[tuple[slice, ...], Tensor]] = []

    def size(self) -> torch.Size:
        """Of the image."""
        return self.image.size()

    def __setitem__(self, place: tuple[slice, ...], pixels: Tensor) -> None:
        self.written.append((place, pixels))


def erase(erasing: RandomErasing, images: Tensor, seeds: Tensor) -> None:
    """Erase parts of images in place, each image by its own seed.

    Args:
        erasing: timm's erasing, with noise drawn on the CPU: an accelerator's generator draws other numbers.
        images: Normalised [B, 3, H, W].
        seeds: Seeds of the views [B].
    """
    drawn = []
    with kept_generators():
        for image, seed in zip(images.unbind(), seeds.tolist(), strict=True):
            random.seed(seed)
            torch.default_generator.manual_seed(seed)
            patches = _Patches(image)
            erasing(patches)
            drawn += [(image[place], pixels) for place, pixels in patches.written]
    if not drawn:
        return
    # One copy for all: each copy of its own would wait for the card.
    noise = to_device(torch.cat([pixels.flatten() for _, pixels in drawn]), images.device)
    for (part, pixels), values in zip(drawn, noise.split([pixels.numel() for _, pixels in drawn]), strict=True):
        part.copy_(values.view(pixels.shape))


def mix_pairs(mixup: Mixup, images: Tensor, labels: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Mixup or cutmix between images 2k and 2k + 1, both with the same λ or box.

    Differs from timm's mode ``pair`` in the partners, which there are the first and the last of the batch, and in
    the source of randomness: λ and box follow from the seed of image 2k.

    Args:
        mixup: timm's mixing, whose settings and functions are used.
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
        return to_device(torch.tensor(values), device).repeat_interleave(2, dim=0)

    top, bottom, left, right = per_image(boxes).T[..., None, None, None]
    rows, columns = torch.arange(height, device=device).view(-1, 1), torch.arange(width, device=device)
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    own = torch.where(inside, 0.0, per_image(shares).view(-1, 1, 1, 1))
    mixed = partners(images).lerp_(images, own)

    smoothing = mixup.label_smoothing / mixup.num_classes
    targets = one_hot(labels, mixup.num_classes, 1 - mixup.label_smoothing + smoothing, smoothing)
    return mixed, partners(targets).lerp_(targets, per_image(lams).view(-1, 1))


def partners(values: Tensor) -> Tensor:
    """A copy of values [B, …] in which 2k and 2k + 1 have changed places."""
    return values.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
