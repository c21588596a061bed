"""A frozen teacher that its student's training never sees."""

import torch
from torch import Tensor, nn

from backbones.checkpoint import build_model, fixed_size


class Teacher:
    """A frozen model beside the student, not inside it.

    A teacher that is a submodule would land in the checkpoint, the optimizer, the gradient reducer of DDP, the
    conversion to SyncBN and EMA's deep copy. This one is a plain object: it stays in eval mode, follows the
    student's device by `apply`, copies as itself and runs without gradients.

    Args:
        **model: Arguments of `backbones.checkpoint.build_model`: ``model``, ``checkpoint``, ``pretrained``, ….
    """

    def __init__(self, **model):
        self.network: nn.Module = build_model(**model).eval().requires_grad_(False)
        self.network = self.network.to(memory_format=torch.channels_last)
        self.source = model
        config = self.network.pretrained_cfg
        self.mean, self.std = tuple(config['mean']), tuple(config['std'])
        self.size = fixed_size(self.network)

    @property
    def num_classes(self) -> int:
        return self.network.num_classes

    def apply(self, fn) -> None:
        """Follow the student to a device or type (`torch.nn.Module._apply`)."""
        self.network._apply(fn)

    def __deepcopy__(self, memo) -> 'Teacher':
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Predict on the student's view.

        Args:
            images: The very tensor that the student sees [B, 3, H, W], normalised with ``mean`` and ``std``.
            mean: Mean that it was normalised with [1, 3, 1, 1].
            std: Standard deviation that it was normalised with [1, 3, 1, 1].

        Returns:
            Logits [B, K].
        """
        own_mean, own_std = (
            mean.new_tensor(self.mean).view(1, 3, 1, 1),
            std.new_tensor(self.std).view(1, 3, 1, 1),
        )
        if not (torch.equal(own_mean, mean) and torch.equal(own_std, std)):
            images = (images * std + mean - own_mean) / own_std
        if self.size is not None and tuple(images.shape[-2:]) != self.size:
            images = nn.functional.interpolate(images, self.size, mode='bicubic', antialias=True)
        return self.network(images)
