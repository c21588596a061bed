"""A frozen network as a teacher."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from backbones.loading import load_configured
from distill.base.classes import match_classes
from distill.base.forward import compiled, layer_channels
from distill.data.batch import ViewBatch
from distill.data.views import Views
from distill.teachers.network import NetworkTeacher, frozen, with_weights
from distill.teachers.protocol import Prediction, Teacher


class LiveTeacher(NetworkTeacher, Teacher):
    """A frozen network that runs beside the student: in eval mode, without gradients.

    Args:
        compile: Options of `torch.compile`, or whether to compile.
        **model: Arguments of `backbones.loading.load_configured`: ``model``, ``checkpoint``, ``pretrained``, ``mean``,
            …. Random weights teach nothing: they are an error without ``pretrained=False``, which asks for them.

    Attributes:
        classes: Names of the network's classes in the order of its logits, or None if nothing tells them.
        places: For each class of the run its place among the network's logits, or None for the same order.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        ValueError: The model is unknown, or the checkpoint does not fit it.
    """

    exact = True
    live = True

    def __init__(self, compile: bool | Mapping = False, **model):
        loaded = load_configured(**with_weights(model))
        self.network: Any = frozen(loaded.network)
        self.num_classes: int = self.network.num_classes
        self.predict = compiled(compile)
        self.source = model
        self.mean, self.std = tuple(loaded.record.mean or ()), tuple(loaded.record.std or ())
        self.size = loaded.fixed_size
        self.classes = loaded.classes
        self.places: Tensor | None = None

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

    @torch.no_grad()
    def __call__(self, views: ViewBatch, layers: Sequence[int] = ()) -> Prediction:
        """Run the network on the student's views, in its own normalisation and size."""
        logits, maps = self.predict(self.network, self.shown(views), layers)
        if self.places is not None:
            self.places = self.places.to(logits.device)
            logits = logits.index_select(1, self.places)
        return Prediction(logits, maps)
