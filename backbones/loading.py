"""A model from whatever a user has: one call for every command, config and notebook."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from timm.data import resolve_model_data_config
from torch import nn

from backbones.checkpoint import build_model, fixed_size, weights_sha256
from backbones.class_names import known_classes
from backbones.record import ModelRecord


@dataclass
class LoadedModel:
    """A model with all that is needed to use it.

    Attributes:
        network: The model, in eval mode, on the CPU, in float32.
        record: What the network is and is shown. ``input_size``, ``mean``, ``std``, ``crop_pct``, ``crop_mode``,
            ``interpolation`` and ``weights_sha256`` are known; ``classes`` is None if nothing tells their names.
        source: What was asked for, for messages and as the origin of numbers.
        has_weights: Whether weights were loaded; otherwise they are random.
        notes: What was done to the source and is worth a line in a log, such as a prefix that was taken off names.
    """

    network: Any
    record: ModelRecord
    source: str
    has_weights: bool = True
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, in the order of the logits."""
        return self.record.classes

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """The one input size (height, width) in pixels that the network takes, or None if it takes any."""
        return fixed_size(self.network)

    @property
    def transform(self) -> dict:
        """Arguments of ``timm.data.create_transform`` for evaluation, without mean and standard deviation."""
        record = self.record
        return {
            'input_size': tuple((record.input_size or [])[-2:]),
            'interpolation': record.interpolation,
            'crop_pct': record.crop_pct,
            'crop_mode': record.crop_mode,
        }


def load(
    source: str | os.PathLike | nn.Module,
    *,
    model: str | None = None,
    classes: Sequence[str] | None = None,
    input_size: int | Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    crop_pct: float | None = None,
    crop_mode: str | None = None,
    interpolation: str | None = None,
    require_weights: bool = True,
    **model_kwargs,
) -> LoadedModel:
    """Load a model. What is given wins over what stands beside the weights, and that over timm's configuration.

    Args:
        source: A timm name; ``hf-hub:REPO`` or ``local-dir:FOLDER``; a file of weights, ``NAME@FILE`` with the name of
            its model; or a network of one's own.
        model: timm's name, for a file of weights with no record beside it.
        classes: Names of the classes, in the order of the logits.
        input_size: Side of the images in pixels, or channels, height and width.
        mean: Mean of each channel, of values in [0, 1].
        std: Standard deviation of each channel, of values in [0, 1].
        crop_pct: The share of the resized image's side that is shown.
        crop_mode: How the rest is cut off, as timm's.
        interpolation: How images are resized, as timm's.
        require_weights: Whether random weights are an error.
        **model_kwargs: Further arguments of ``timm.create_model``, such as ``num_classes``.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The name is unknown, the weights do not fit it, or an argument is out of range.
    """
    text = str(source)
    is_file = Path(text).is_file()
    network: Any
    if is_file:
        network = build_model(model, text, **model_kwargs)
        record = ModelRecord.read(text) or ModelRecord(model or text, dict(model_kwargs))
    else:
        network = build_model(text, pretrained=True, **model_kwargs)
        record = ModelRecord(text, dict(model_kwargs))
    config = resolve_model_data_config(network)
    # A model trained at its own size is shown the whole image at that size; a pretrained one what it was tested with.
    own_crop_pct = 1.0 if record.input_size else config['crop_pct']
    told = {} if is_file else network.pretrained_cfg
    record = replace(
        record,
        classes=known_classes(classes or record.classes, told, network.num_classes),
        input_size=record.input_size or [3, *(fixed_size(network) or config['input_size'][-2:])],
        mean=list(mean or record.mean or config['mean']),
        std=list(std or record.std or config['std']),
        crop_pct=crop_pct or record.crop_pct or own_crop_pct,
        crop_mode=crop_mode or record.crop_mode or config['crop_mode'],
        interpolation=interpolation or record.interpolation or config['interpolation'],
        weights_sha256=weights_sha256(network.state_dict()),
    )
    return LoadedModel(network.eval(), record, text)
