"""A frozen network as a teacher of features: embeddings and feature maps, which need no classes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from backbones.loading import LoadedModel, load_configured
from distill.base.forward import compiled, embed, find_layer, is_of_tokens, layer_channels
from distill.data.batch import ViewBatch
from distill.data.preprocessor import ViewPreprocessor
from distill.data.sampler import ViewSampler
from distill.data.views import Views
from distill.teachers.network import NetworkTeacher, frozen, with_weights
from distill.teachers.protocol import Features, FeatureTeacher

POOLINGS = ('cls', 'avg')
"""What a user may ask for in place of a model's own pooling: the class token, or the mean of the patch tokens."""


class LiveFeatures(NetworkTeacher, FeatureTeacher):
    """A frozen timm model that is shown the student's views, in its own normalisation and size.

    Embeddings are what timm's ``forward_head(…, pre_logits=True)`` makes of ``forward_features``: pooled as the model
    does, and after all of its norms. The map is what ``forward_features`` gives: the patch tokens, after the final norm
    and without class, distillation and register tokens, laid out as the patches lie in the image; or the last map of a
    CNN. An inner layer's map is that of ``forward_intermediates``; of a plain transformer it goes through the final
    norm too, as DINOv2's own intermediate layers do.

    Args:
        name: Its name among the teachers of a run.
        pooling: ``cls`` or ``avg`` of a plain transformer's tokens; None for the model's own pooling.
        layer: Layer of the map, an index of timm's `forward_intermediates`, negative from the end; None for the end.
        size: Side in pixels, or height and width, of the images that the network is shown; None for the one size that
            it takes, or that of the views if it takes any.
        compile: Options of `torch.compile`, or whether to compile.
        **model: Arguments of `backbones.loading.load_configured`: ``model``, ``checkpoint``, ``pretrained``, ``mean``,
            …. Random weights teach nothing: they are an error without ``pretrained=False``, which asks for them.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        ValueError: The model is unknown, the checkpoint does not fit it, it has no such layer or pooling, or its
            patches do not fit the size.
    """

    live = True

    def __init__(
        self,
        name: str,
        pooling: str | None = None,
        layer: int | None = None,
        size: int | Sequence[int] | None = None,
        compile: bool | Mapping = False,
        **model,
    ):
        self.name, self.pooling = name, pooling
        side = None if size is None else (size, size) if isinstance(size, int) else (size[0], size[1])
        loaded = self._load({**model, 'input_size': side} if side is not None else model)
        self.network = network = frozen(loaded.network)
        self.record = loaded.record
        self.mean, self.std = tuple(loaded.record.mean or ()), tuple(loaded.record.std or ())
        self.size = side or loaded.fixed_size
        self.classes = loaded.classes
        # Of a network without timm's functions all that it gives is its embeddings.
        self.num_classes: int = network.num_classes if hasattr(network, 'forward_features') else 0
        self.source = {'name': name, **model, 'pooling': pooling, 'layer': layer, 'size': side}
        self._check_pooling()
        if self.size is not None:
            self._check_size(self.size)
        channels = layer_channels(network, f"teacher '{name}'") if layer is not None else []
        self.layer = find_layer(layer, channels, f"teacher '{name}'") if layer is not None else None
        self.pooled_chs: int = _pooled_width(network, pooling)
        width = network.num_features if hasattr(network, 'forward_features') else None
        self.grid_chs: int | None = channels[self.layer] if self.layer is not None else width
        self.embed = compiled(compile, embed)

    def _load(self, model: Mapping[str, Any]) -> LoadedModel:
        """The network, from the arguments that are the model's alone."""
        return load_configured(**with_weights(model))

    def describe(self) -> dict:
        """What fixes the features of a view, in plain values by name."""
        record = self.record
        return {
            'model': record.model,
            'model_kwargs': dict(record.model_kwargs),
            'weights_sha256': record.weights_sha256,
            'pooling': self.pooling,
            'layer': self.layer,
            'size': list(self.size) if self.size is not None else None,
            'mean': [round(value, 6) for value in self.mean],
            'std': [round(value, 6) for value in self.std],
        }

    def check_run(self, dataset: Views, sampler: ViewSampler, preprocessor: ViewPreprocessor) -> None:
        """Refuse views whose size the network's patches do not fit.

        Raises:
            ValueError: They do not.
        """
        shown = getattr(dataset, 'transform_config', {}).get('input_size')
        if self.size is None and shown is not None:
            self._check_size((shown, shown) if isinstance(shown, int) else (shown[-2], shown[-1]))

    @torch.no_grad()
    def __call__(self, views: ViewBatch, wanted: Collection[str] = ('pooled', 'grid')) -> Features:
        """Run the network once.

        Raises:
            ValueError: The network's patches do not fit the views, or logits are wanted and it has no classifier.
        """
        if 'logits' in wanted and not self.num_classes:
            raise ValueError(f"teacher '{self.name}' has no classifier and gives no logits; drop the losses on logits")
        images = self.shown(views)
        if self.size is None:
            self._check_size((images.shape[-2], images.shape[-1]))
        layers = (self.layer,) if 'grid' in wanted else ()
        pooled, maps, logits = self.embed(
            self.network, images, self.pooling, layers, True, 'pooled' in wanted, 'logits' in wanted
        )
        return Features(pooled, maps[0] if maps else None, logits)

    def _check_pooling(self) -> None:
        """Check that the network has the tokens that are to be pooled."""
        network, pooling, kind = self.network, self.pooling, type(self.network).__name__
        if pooling is None:
            return
        if pooling not in POOLINGS:
            raise ValueError(
                f"teacher '{self.name}' has pooling '{pooling}'; choose from {', '.join(POOLINGS)}, or leave it out "
                "for the model's own"
            )
        if not is_of_tokens(network):
            raise ValueError(f"teacher '{self.name}' is a {kind} and has no patch tokens to pool; leave pooling out")
        if pooling == 'cls' and not _has_class_token(network):
            raise ValueError(
                f"teacher '{self.name}' is a {kind} without class token; leave pooling out or set it to avg"
            )

    def _check_size(self, size: tuple[int, int]) -> None:
        """Check that the patches of the network, if it has some, fit images of a size (height, width)."""
        patches: Any = getattr(self.network, 'patch_embed', None)
        if getattr(patches, 'dynamic_img_pad', True):
            return  # It pads, or is none of timm's layers of patches, which drop what is left over.
        patch = patches.patch_size
        if any(side % one for side, one in zip(size, patch, strict=True)):
            near = [max(1, side // one) * one for side, one in zip(size, patch, strict=True)]
            raise ValueError(
                f"teacher '{self.name}' has patches of {patch[0]}x{patch[1]} pixels, which do not fit images of "
                f'{size[0]}x{size[1]}; set size={near[0] if near[0] == near[1] else tuple(near)}'
            )


def _has_class_token(network: Any) -> bool:
    """Whether the first of a transformer's tokens is of its class."""
    return getattr(network, 'cls_token', None) is not None


def _pooled_width(network: Any, pooling: str | None) -> int:
    """The width of a network's embeddings."""
    if not hasattr(network, 'forward_features'):
        return network.num_classes
    return network.num_features if pooling is not None else getattr(network, 'head_hidden_size', network.num_features)
