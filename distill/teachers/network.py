"""A frozen network that is shown the student's views in its own normalisation and size."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from backbones.layers.frozen_linear import speed_up_frozen
from backbones.sources.found import check_model_name
from backbones.sources.source import Source
from distill.base.images import renormalise
from distill.data.batch import ViewBatch


def with_weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a teacher, with its weights asked for where its source has some.

    Args:
        model: Arguments of `backbones.loading.load_configured`.

    Raises:
        ValueError: The teacher would have random weights, which ``pretrained=False`` does not ask for.
    """
    has_checkpoint, asked = model.get('checkpoint') is not None, model.get('pretrained')
    if has_checkpoint or asked is not None or model.get('model') is None:
        return {**model, 'require_weights': has_checkpoint or asked is not False}
    source = Source.parse(model['model'])
    if source.path is None and source.repo is None:
        check_model_name(source.model or '')
        raise ValueError(
            f"the teacher '{source.text}' has random weights; give checkpoint='FILE', pretrained=True for timm's, or "
            'pretrained=False to teach with random ones'
        )
    return {**model, 'pretrained': True}


def frozen(network: Any) -> Any:
    """A network as a teacher runs it: without gradients, in ``channels_last``, its linear layers in the faster way."""
    return speed_up_frozen(network.requires_grad_(False)).to(memory_format=torch.channels_last)


class NetworkTeacher:
    """A frozen network: in eval mode, without gradients, in no module tree.

    Attributes:
        network: The timm model.
        mean: Mean that the network was trained with, per channel.
        std: Standard deviation that the network was trained with, per channel.
        size: The one input size (height, width) that the network is shown, or None for that of the views.
    """

    network: Any
    mean: Sequence[float]
    std: Sequence[float]
    size: tuple[int, int] | None
    _compared: tuple[Tensor, Tensor, Tensor, bool] | None = None

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Follow the student to a device or a type."""
        with torch.no_grad():
            self.network._apply(fn)

    def shown(self, views: ViewBatch) -> Tensor:
        """The views as the network is shown them, normalised [B, 3, H, W]."""
        images = views.images
        own_mean, own_std, same = self._compare(views.mean, views.std)
        if not same:
            images = renormalise(images, views.mean, views.std, own_mean, own_std)
        if self.size is not None and tuple(images.shape[-2:]) != self.size:
            images = nn.functional.interpolate(images, self.size, mode='bicubic', antialias=True)
        return images

    def _compare(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, bool]:
        """The network's mean and standard deviation [1, 3, 1, 1], and whether these equal the student's."""
        # Kept as long as the student's are the same tensors: to compare values on a device is to wait for it.
        if self._compared is None or self._compared[0] is not mean:
            own_mean, own_std = mean.new_tensor(self.mean).view(1, 3, 1, 1), std.new_tensor(self.std).view(1, 3, 1, 1)
            self._compared = (mean, own_mean, own_std, torch.equal(own_mean, mean) and torch.equal(own_std, std))
        return self._compared[1:]
