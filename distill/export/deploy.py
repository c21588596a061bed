"""What is exported of a model: its inference form, a classifier or a feature pyramid, with or without normalisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from backbones.inference_form import inference_form
from backbones.loading import LoadedModel

LEVELS = 4
"""Levels of a feature pyramid, unless others are asked for: the last ones of the network."""


@dataclass(frozen=True)
class Deployed:
    """A network in the form in which it is exported, and the model that it has to equal.

    Attributes:
        network: What is exported, in eval mode.
        model: What was trained, with the same inputs and outputs.
        steps: What was done to the model, a line each.
        outputs: Names of the outputs.
        size: Height and width of the images in pixels.
        dtype: Of the images: ``float32`` for normalised ones, ``uint8`` for images as they are decoded.
        strides: Of each level of a feature pyramid; empty for a classifier.
    """

    network: nn.Module
    model: nn.Module
    steps: tuple[str, ...]
    outputs: tuple[str, ...]
    size: tuple[int, int]
    dtype: str
    strides: tuple[int, ...] = ()


class Maps(nn.Module):
    """A network that returns maps of features [B, C, H, W] in place of logits."""

    def __init__(self, network: Any, indices: Sequence[int]):
        super().__init__()
        self.network, self.indices = network, list(indices)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The maps of normalised images [B, 3, H, W]."""
        return tuple(
            self.network.forward_intermediates(
                images, indices=self.indices, output_fmt='NCHW', intermediates_only=True, stop_early=True
            )
        )


class Normalised(nn.Module):
    """A network that is shown images as they are decoded, uint8, and normalises them itself."""

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer('mean', torch.tensor(list(mean)).view(1, -1, 1, 1))
        self.register_buffer('std', torch.tensor(list(std)).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Any:
        """What the network returns for uint8 images [B, 3, H, W]; the formula is `distill.base.images.normalise`'s."""
        return self.network((images.to(torch.float32) / 255 - self.mean) / self.std)


def deploy(loaded: LoadedModel, features: Sequence[int] | None = None, uint8: bool = False) -> Deployed:
    """Bring a model into the form in which it is exported.

    Args:
        loaded: The model, which stays as it is.
        features: Entries of its ``feature_info``, to export a feature pyramid of these; an empty list for the last
            four; None for a classifier.
        uint8: Whether the network normalises its images itself.

    Raises:
        ValueError: The model has no classifier or no such features, or its inference form does not equal it.
    """
    record = loaded.record
    height, width = (record.input_size or [])[-2:]
    if features is None and not loaded.num_classes:
        raise ValueError(f"'{loaded.source}' has no classifier (num_classes=0); export its features (--features)")
    form = inference_form(loaded.network, (height, width))
    network, model, steps = form.network, loaded.network, form.steps
    outputs, strides = ('logits',), ()
    if features is not None:
        indices = _chosen(loaded, features)
        network, model = Maps(network, indices), Maps(model, indices)
        outputs = tuple(f'map_{index}' for index in indices)
        strides = tuple(loaded.network.feature_info[index]['reduction'] for index in indices)
        steps = (*steps, f'maps of features: {", ".join(map(str, indices))}')
    if uint8:
        mean, std = record.mean or [], record.std or []
        network, model = Normalised(network, mean, std), Normalised(model, mean, std)
        steps = (*steps, 'normalisation inside')
    return Deployed(
        network.eval(),
        model.eval(),
        steps,
        outputs,
        (height, width),
        'uint8' if uint8 else 'float32',
        strides,
    )


def _chosen(loaded: LoadedModel, features: Sequence[int]) -> list[int]:
    """The features that are exported, in the order of the network."""
    info = getattr(loaded.network, 'feature_info', None)
    if info is None or not hasattr(loaded.network, 'forward_intermediates'):
        raise ValueError(f"'{loaded.source}' has no feature maps to export; leave out --features")
    count = len(info)
    wrong = [index for index in features if not -count <= index < count]
    if wrong:
        raise ValueError(f"--features {wrong[0]} is not in '{loaded.source}', which has 0 to {count - 1}")
    return sorted({index % count for index in features}) or list(range(count))[-LEVELS:]
