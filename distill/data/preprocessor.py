"""From a batch of decoded views to the tensor that a model sees, replayed bit for bit."""

from collections.abc import Sequence

import numpy as np
import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from timm.data import Mixup
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from distill.base.images import normalise
from distill.data.batch import ViewBatch
from distill.data.mixing import erase, mix_pairs

MIXUP_MODES = ('batch', 'pair', 'elem')
"""timm's modes of mixing."""


@MODELS.register_module()
class ViewPreprocessor(BaseDataPreprocessor):
    """Normalise, then in training erase and mix, on the device: one tensor for teacher and student alike.

    Erasing, and mixing with ``mode='pair'``, follow from the seeds of the views alone: not from the device, the rest
    of the batch or the iteration. timm's modes ``batch`` and ``elem`` mix an image with the one at the other end of
    the batch, by the generators of the run.

    Corrupted copies of the views, where the data set makes any, were made before all this. They are normalised, and
    erased and mixed with the parameters of their views: the same patches with the same noise, the same partners, λ and
    boxes.

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
        if self.mixup is not None and self.mixup.mode not in MIXUP_MODES:
            # timm takes every other text for batch.
            raise ValueError(f"mixup.mode '{self.mixup.mode}' is unknown; choose from {', '.join(MIXUP_MODES)}")
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, data: Sequence[Tensor], training: bool = False) -> dict:
        """Prepare a batch.

        Args:
            data: Collated items of `distill.data.views.Views`: views [B, 3, H, W] in uint8, labels, indices, view
                numbers and seeds, [B] each, and perhaps corrupted copies [B, copies, 3, H, W]. All from the indices on
                may be left out if nothing is erased or mixed in pairs.
            training: Erase and mix.

        Returns:
            ``images``: normalised [B, 3, H, W]; ``targets``: labels [B], or probabilities [B, K] if mixed, or −1 [B]
            without labels; ``keys``: index and view [B, 2] on the CPU, or None. With copies also ``corrupted``, as the
            images [copies · B, 3, H, W]: the first copy of each view, then the second.

        Raises:
            ValueError: Images are to be mixed in pairs and the batch does not consist of such pairs; or images are to
                be erased or mixed in pairs and the batch has no seeds.
        """
        # Keys and seeds stay on the CPU: the cache and the generators that they are for are there.
        images, targets = self.cast_data(list(data[:2]))
        keys, seeds = (torch.stack(list(data[2:4]), dim=1), data[4]) if len(data) > 2 else (None, None)
        images = normalise(images.to(memory_format=self.memory_format), self.mean, self.std)
        corrupted = self._corrupted(data, training) if len(data) > 5 else {}
        if training and self.mixup is not None and bool((data[1] < 0).any()):  # Images without labels are mixed alone.
            images, _ = self._augment(images, targets.clamp(min=0), keys, seeds)
        elif training:
            images, targets = self._augment(images, targets, keys, seeds)
        return dict(images=images, targets=targets, keys=keys, **corrupted)

    def _corrupted(self, data: Sequence[Tensor], training: bool) -> dict:
        """The corrupted copies of a batch of views, prepared as the views themselves will be."""
        # timm's modes of mixing draw from numpy's generator, which the views shall find as each copy has found it.
        state = np.random.get_state()
        copies = []
        for copy in data[5].unbind(1):
            copies.append(self.forward([copy, *data[1:5]], training)['images'])
            np.random.set_state(state)
        return {'corrupted': copies[0] if len(copies) == 1 else torch.cat(copies)}

    def view_batch(self, images: Tensor, keys: Tensor | None = None) -> ViewBatch:
        """The images of a prepared batch as a teacher is shown them.

        Args:
            images: Images that this preprocessor has normalised [B, 3, H, W].
            keys: Index and view of each image [B, 2]; None if the images are no views of the training set.
        """
        return ViewBatch(images, self.mean, self.std, keys)

    def _augment(self, images: Tensor, targets: Tensor, keys: Tensor | None, seeds: Tensor | None):
        mixup = self.mixup
        by_pairs = mixup if mixup is not None and mixup.mode == 'pair' else None
        if mixup is not None and len(images) % 2:
            raise ValueError(f'a batch of {len(images)} cannot be mixed in pairs; set an even batch_size and drop_last')
        if by_pairs or self.random_erasing:
            if keys is None or seeds is None:
                raise ValueError('random erasing and mixup mode pair need the seeds of the views; load them by `Views`')
            if self.random_erasing:
                erase(RandomErasing(self.random_erasing, mode='pixel', device='cpu'), images, seeds)
            if by_pairs:
                if not torch.equal(keys[0::2, 1], keys[1::2, 1]):
                    raise ValueError('neighbours in the batch are no partners; let a ViewSampler deal them')
                return mix_pairs(by_pairs, images, targets, seeds)
        return (images, targets) if mixup is None else mixup(images, targets)

    def describe(self) -> dict:
        """Describe how views are normalised, erased and mixed, in plain values by name.

        Raises:
            ValueError: Mixing depends on more than the views, so that it cannot be replayed.
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
