"""A frozen teacher that runs itself."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from backbones.checkpoint import build_model, fixed_size
from backbones.record import ModelRecord
from distill.base.forward import compiled, layer_channels
from distill.base.images import renormalise


class Teacher:
    """A frozen model beside the student, not inside it.

    A teacher that is a submodule would land in the checkpoint, the optimizer, the gradient reducer of DDP, the
    conversion to SyncBN and EMA's deep copy. This one is a plain object: it stays in eval mode, follows the
    student's device by `apply`, copies as itself and runs without gradients.

    Args:
        compile: Options of `torch.compile`, or whether to compile.
        **model: Arguments of `backbones.checkpoint.build_model`: ``model``, ``checkpoint``, ``pretrained``, ….

    Attributes:
        features: Whether it gives feature maps.
        exact: Whether it gives the logits of all classes.
    """

    features = True
    exact = True

    def __init__(self, compile: bool | Mapping = False, **model):
        self.network: nn.Module = build_model(**model).eval().requires_grad_(False)
        self.network = self.network.to(memory_format=torch.channels_last)
        self.predict = compiled(compile)
        self.source = model
        # A checkpoint of this project says what it was trained with.
        record = ModelRecord.read(model['checkpoint']) if model.get('checkpoint') else None
        config = self.network.pretrained_cfg
        self.mean = tuple(record.mean if record is not None and record.mean else config['mean'])
        self.std = tuple(record.std if record is not None and record.std else config['std'])
        self.size = fixed_size(self.network)
        # Kept from one call to the next: to compare tensors on a device is to wait for it.
        self._compared: tuple[Tensor, Tensor, Tensor, bool] | None = None

    @property
    def num_classes(self) -> int:
        return self.network.num_classes

    def layer_channels(self) -> list[int]:
        """Channels of each layer that can be asked for."""
        return layer_channels(self.network, 'teacher')

    def apply(self, fn) -> None:
        """Follow the student to a device or type (`torch.nn.Module._apply`)."""
        self.network._apply(fn)

    def __deepcopy__(self, memo) -> 'Teacher':
        return self

    @torch.no_grad()
    def __call__(
        self, images: Tensor, mean: Tensor, std: Tensor, keys: Tensor | None = None, layers: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Predict on the student's view.

        Args:
            images: The very tensor that the student sees [B, 3, H, W], normalised with ``mean`` and ``std``.
            mean: Mean that it was normalised with [1, 3, 1, 1].
            std: Standard deviation that it was normalised with [1, 3, 1, 1].
            keys: Index and view of each image [B, 2]; this teacher looks at the images instead.
            layers: Layers whose feature maps are wanted.

        Returns:
            Logits [B, K], and a map [B, C, H', W'] for each layer.
        """
        if self._compared is None or self._compared[0] is not mean:
            self._compared = (mean, *self._compare(mean, std))
        _, own_mean, own_std, same = self._compared
        if not same:
            images = renormalise(images, mean, std, own_mean, own_std)
        if self.size is not None and tuple(images.shape[-2:]) != self.size:
            images = nn.functional.interpolate(images, self.size, mode='bicubic', antialias=True)
        return self.predict(self.network, images, layers)

    def _compare(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, bool]:
        own_mean, own_std = mean.new_tensor(self.mean).view(1, 3, 1, 1), std.new_tensor(self.std).view(1, 3, 1, 1)
        return own_mean, own_std, torch.equal(own_mean, mean) and torch.equal(own_std, std)
