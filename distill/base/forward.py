"""One pass through a timm model that gives logits or embeddings, and the feature maps of chosen layers beside them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class TimmModel(Protocol):
    """The part of timm's contract for models that this module calls."""

    feature_info: Iterable[Mapping]

    def __call__(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]: ...

    def forward_head(self, features: Tensor) -> Tensor | tuple[Tensor, Tensor]: ...

    def forward_intermediates(
        self, images: Tensor, *, indices: Sequence[int], output_fmt: str
    ) -> tuple[Tensor, list[Tensor]]: ...


def predict(
    network: TimmModel, images: Tensor, layers: Sequence[int] = ()
) -> tuple[Tensor | tuple[Tensor, Tensor], list[Tensor]]:
    """Compute logits and feature maps in one pass.

    Args:
        network: A timm model.
        images: Normalised images [B, 3, H, W].
        layers: Layers whose maps are wanted, as indices of timm's `forward_intermediates`, not negative.

    Returns:
        Logits [B, K], or a pair of them from a model in training that has a distillation token; and a map
        [B, C, H', W'] for each layer.
    """
    if not layers:
        return network(images), []
    wanted = sorted(set(layers))
    features, maps = network.forward_intermediates(images, indices=wanted, output_fmt='NCHW')
    return network.forward_head(features), [maps[wanted.index(layer)] for layer in layers]


def compiled(options: bool | Mapping, function: Callable = predict) -> Callable:
    """Compile a function of this module, or return it as it is.

    The function is compiled and not the models, whose state dicts so keep their names.

    Args:
        options: Whether to compile, or arguments of `torch.compile`.
        function: `predict` or `embed`.
    """
    if options is False:
        return function
    return torch.compile(function, **({} if options is True else options))


def layer_channels(network: TimmModel, whose: str) -> list[int]:
    """Count the channels of each layer that a model's `forward_intermediates` can return.

    Args:
        network: A timm model.
        whose: ``student`` or ``teacher``, for the error.

    Raises:
        ValueError: The model has not all of timm's contract that this takes.
    """
    missing = [name for name in ('forward_intermediates', 'forward_head', 'feature_info') if not hasattr(network, name)]
    if missing:
        raise ValueError(
            f'the {whose} {type(network).__name__} gives no feature maps ({missing[0]}); drop feature losses'
        )
    return [layer['num_chs'] for layer in network.feature_info]


def find_layer(layer: int, channels: Sequence[int], owner: str) -> int:
    """The index of a layer from the first, of one that may be counted from the last.

    Args:
        layer: Index of the layer, negative from the end.
        channels: Of each layer.
        owner: ``student`` or ``teacher``, for the error.

    Raises:
        ValueError: There is no such layer.
    """
    if isinstance(layer, bool) or not isinstance(layer, int) or not -len(channels) <= layer < len(channels):
        raise ValueError(f'layer {layer} of the {owner} is out of range; choose from 0 … {len(channels) - 1}')
    return layer % len(channels)


def embed(
    network: Any,
    images: Tensor,
    pooling: str | None = None,
    layers: Sequence[int | None] = (),
    normed: bool = False,
    with_pooled: bool = True,
    with_logits: bool = False,
) -> tuple[Tensor | None, list[Tensor], Tensor | None]:
    """Compute embeddings, feature maps and logits in one pass.

    Args:
        network: A timm model; or another, if neither layers nor logits are asked for.
        images: Normalised images [B, 3, H, W].
        pooling: ``cls`` or ``avg`` of a network of tokens, see `pooled`; None for the model's own.
        layers: Whose maps are wanted: indices of timm's `forward_intermediates`, not negative, or None for what
            `forward_features` gives, after the final norm.
        normed: Whether the tokens of inner layers go through the final norm too.
        with_pooled: Whether embeddings are wanted.
        with_logits: Whether logits are wanted.

    Returns:
        Embeddings [B, D] before the classifier, or None; a map [B, C, H', W'] for each layer; logits [B, K], or None.
    """
    if not hasattr(network, 'forward_features'):
        return network(images), [], None  # Of a user's own: what it gives is its embedding.
    inner = sorted({layer for layer in layers if layer is not None})
    maps: dict[int | None, Tensor] = {}
    if inner:
        # Models of another kind than tokens may refuse the argument.
        options = {'norm': True} if normed and is_of_tokens(network) else {}
        features, found = network.forward_intermediates(images, indices=inner, output_fmt='NCHW', **options)
        maps = dict(zip(inner, found, strict=True))
    else:
        features = network.forward_features(images)
    if None in layers:
        maps[None] = as_map(network, features, images)
    if normed and is_of_tokens(network) and isinstance(getattr(network, 'norm', None), nn.Identity):
        # The final norm of such a model follows pooling.
        maps = {layer: _fc_norm(network, one.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for layer, one in maps.items()}
    embeddings = pooled(network, features, pooling) if with_pooled else None
    logits = network.forward_head(features) if with_logits else None
    return embeddings, [maps[layer] for layer in layers], logits


def is_of_tokens(network: Any) -> bool:
    """Whether a model's features are tokens of one width and of patches of one size, as a plain transformer's are."""
    patches = getattr(network, 'patch_embed', None)
    return hasattr(network, 'num_prefix_tokens') and hasattr(patches, 'dynamic_feat_size')


def pooled(network: Any, features: Tensor, pooling: str | None) -> Tensor:
    """The embeddings of images by a timm model, before its classifier and after all of its norms.

    Args:
        network: A timm model.
        features: What its `forward_features` gives.
        pooling: None for the model's own; ``cls`` for the class token, or ``avg`` for the mean of the patch tokens, of
            a network of tokens.

    Returns:
        [B, D].
    """
    if pooling is None or not is_of_tokens(network):
        return network.forward_head(features, pre_logits=True)
    tokens = features[:, 0] if pooling == 'cls' else features[:, network.num_prefix_tokens :].mean(dim=1)
    return _fc_norm(network, tokens)


def as_map(network: Any, features: Tensor, images: Tensor) -> Tensor:
    """What a timm model's `forward_features` gives, as a map [B, C, H', W'] without tokens that are no patches.

    Raises:
        ValueError: The features lie in no map.
    """
    if isinstance(features, Tensor) and features.ndim == 4:
        return features.permute(0, 3, 1, 2) if getattr(network, 'output_fmt', 'NCHW') == 'NHWC' else features
    if not is_of_tokens(network):
        raise ValueError(f'what {type(network).__name__} gives at its end is no map; name one of its layers (layer=-1)')
    height, width = network.patch_embed.dynamic_feat_size(images.shape[-2:])
    return features[:, network.num_prefix_tokens :].unflatten(1, (height, width)).permute(0, 3, 1, 2)


def _fc_norm(network: Any, x: Tensor) -> Tensor:
    norm = getattr(network, 'fc_norm', None)
    return x if norm is None else norm(x)
