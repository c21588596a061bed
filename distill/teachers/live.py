"""A frozen network as a teacher."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from backbones.loading import load_configured
from backbones.sources.found import check_model_name
from backbones.sources.source import Source
from distill.base.classes import match_classes
from distill.base.forward import compiled, layer_channels
from distill.base.images import renormalise
from distill.data.batch import ViewBatch
from distill.data.views import Views
from distill.teachers.protocol import Prediction, Teacher


def _with_weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a teacher, with its weights asked for where its source has some."""
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


class LiveTeacher(Teacher):
    """A frozen network that runs beside the student: in eval mode, without gradients.

    Args:
        compile: Options of `torch.compile`, or whether to compile.
        **model: Arguments of `backbones.loading.load_configured`: ``model``, ``checkpoint``, ``pretrained``, ``mean``,
            …. Random weights teach nothing: they are an error without ``pretrained=False``, which asks for them.

    Attributes:
        network: The timm model.
        mean: Mean that the network was trained with, per channel.
        std: Standard deviation that the network was trained with, per channel.
        size: The one input size (height, width) of the network, or None if it takes any.
        classes: Names of the network's classes in the order of its logits, or None if nothing tells them.
        places: For each class of the run its place among the network's logits, or None for the same order.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        ValueError: The model is unknown, or the checkpoint does not fit it.
    """

    exact = True
    live = True

    def __init__(self, compile: bool | Mapping = False, **model):
        loaded = load_configured(**_with_weights(model))
        network: Any = loaded.network.requires_grad_(False)
        self.network: Any = network.to(memory_format=torch.channels_last)
        self.num_classes: int = network.num_classes
        self.predict = compiled(compile)
        self.source = model
        self.mean, self.std = tuple(loaded.record.mean or ()), tuple(loaded.record.std or ())
        self.size = loaded.fixed_size
        self.classes = loaded.classes
        self.places: Tensor | None = None
        self._compared: tuple[Tensor, Tensor, Tensor, bool] | None = None

    def layer_channels(self) -> list[int]:
        """Channels of each layer whose feature map can be asked for.

        Raises:
            ValueError: The network cannot return feature maps.
        """
        return layer_channels(self.network, 'teacher')

    def order_classes(self, dataset: Views) -> None:
        """Answer with the logits in the order of a data set's classes, from now on.

        Raises:
            ValueError: The network's classes are others.
        """
        if self.classes is None or not dataset.named:
            return
        source = self.source.get('checkpoint') or self.source.get('model')
        places = match_classes(dataset.classes, self.classes, f"the set '{dataset.where}'", f"the teacher '{source}'")
        self.places = None if places == list(range(len(places))) else torch.tensor(places)

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Follow the student to a device or a type."""
        self.network._apply(fn)

    @torch.no_grad()
    def __call__(self, views: ViewBatch, layers: Sequence[int] = ()) -> Prediction:
        """Run the network on the student's views, in its own normalisation and size."""
        images, mean, std = views.images, views.mean, views.std
        own_mean, own_std, same = self._compare(mean, std)
        if not same:
            images = renormalise(images, mean, std, own_mean, own_std)
        if self.size is not None and tuple(images.shape[-2:]) != self.size:
            images = nn.functional.interpolate(images, self.size, mode='bicubic', antialias=True)
        logits, maps = self.predict(self.network, images, layers)
        if self.places is not None:
            self.places = self.places.to(logits.device)
            logits = logits.index_select(1, self.places)
        return Prediction(logits, maps)

    def _compare(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, bool]:
        """The network's mean and standard deviation [1, 3, 1, 1], and whether these equal the student's."""
        # Kept as long as the student's are the same tensors: to compare values on a device is to wait for it.
        if self._compared is None or self._compared[0] is not mean:
            own_mean, own_std = mean.new_tensor(self.mean).view(1, 3, 1, 1), std.new_tensor(self.std).view(1, 3, 1, 1)
            self._compared = (mean, own_mean, own_std, torch.equal(own_mean, mean) and torch.equal(own_std, std))
        return self._compared[1:]
