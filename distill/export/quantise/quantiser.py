"""What the quantisers of the engines have in common."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from distill.base.classes import first
from distill.engines.artefact import Manifest
from distill.export.quantise.calibration import Calibration

WEIGHT = '.weight'
SUMS_FIT = ', whose sums fit into 16 bits'
"""What `Task.reduce_range` adds to a method."""
CHOOSING = ('NonMaxSuppression', 'TopK', 'NonZero')
"""Operations by which a detector chooses; what comes before one of them is not what the layers after it see."""
FIRST_INPUT = (
    'roialign', 'reshape', 'transpose', 'slice', 'gather', 'squeeze', 'expand', 'broadcast', 'resize', 'interpolate',
    'pad', 'tile', 'split', 'reduce',
)  # fmt: skip
"""Parts of the names of operations that take values by their first input; the others say where or which."""


@dataclass(frozen=True)
class Task:
    """An fp32 artefact that is to be quantised.

    Attributes:
        path: The file.
        manifest: What stands beside it.
        calibration: Images to measure ranges on.
        folder: For temporary files.
        reduce_range: Have the sums of two products fit into 16 bits, which processors without VNNI cut off. For ONNX
            Runtime and OpenVINO.
    """

    path: Path
    manifest: Manifest
    calibration: Calibration
    folder: Path
    reduce_range: bool = False


class Quantiser(Protocol):
    """Writes int8 artefacts of one fp32 artefact.

    Attributes:
        layers: Names of the convolutions and matrix products, in the order of the network: those of the modules of the
            network as far as the file tells them.
        can_keep: Whether layers can stay in fp32.
        fixed: Axes of any size that its artefacts have at the manifest's size only.
        method: What it does, for the manifest.
    """

    layers: list[str]
    can_keep: bool
    fixed: tuple[str, ...]
    method: str

    def write(self, out: str | os.PathLike, keep: Collection[str] = ()) -> None:
        """Write the int8 artefact, with some layers in fp32."""
        ...

    def write_only(self, out: str | os.PathLike, layer: str, calibration: Calibration) -> None:
        """Write the artefact with one layer in int8 and everything else in fp32.

        Args:
            out: The file.
            layer: Of `layers`.
            calibration: Images to measure ranges on, if those of the task are not used.
        """
        ...


QUANTISERS = {'onnx': 'onnx_qdq', 'openvino': 'nncf', 'mnn': 'mnn'}
"""Engines that quantise a written file, and the module of each."""


def layer_names(operations: Sequence[tuple[str, str]]) -> list[str]:
    """Unique names of layers.

    Args:
        operations: For each layer the name of its weight, or '' where it has none of its own, and the name of its
            operation.

    Returns:
        The name of the module, which is that of the weight without ``.weight``; else the name of the operation.
    """
    names = [weight.removesuffix(WEIGHT) if weight.endswith(WEIGHT) else operation for weight, operation in operations]
    return [
        operation if names.count(name) > 1 else name for name, (_, operation) in zip(names, operations, strict=True)
    ]


@dataclass(frozen=True)
class Operation:
    """An operation of a file.

    Attributes:
        kind: The engine's name of its kind.
        inputs: Names of the operations that its inputs come from, in order.
    """

    kind: str
    inputs: tuple[str, ...]


def off_the_path(operations: Mapping[str, Operation], layers: Collection[str]) -> list[str]:
    """Operations that no layer's input is computed by: boxes, suppression, and what is done with outputs.

    A detector computes with coordinates and indices, of which 8 bits are too few, and its layers see maps only: the
    path is followed from each layer to the image, and at an operation that takes regions or elements of a map, to the
    map.

    Args:
        operations: All, by name.
        layers: Names of the convolutions and matrix products among them.
    """
    seen, left = set(layers), [name for layer in layers for name in operations[layer].inputs]
    while left:
        name = left.pop()
        one = operations.get(name)
        if one is None or name in seen or one.kind in CHOOSING:
            continue
        seen.add(name)
        if one.kind in ('Where', 'Select'):
            left.extend(one.inputs[1:])
        else:
            is_first = any(part in one.kind.lower() for part in FIRST_INPUT)
            left.extend(one.inputs[:1] if is_first else one.inputs)
    return [name for name in operations if name not in seen]


def chosen_layers(layers: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The layers that a user names: each by its name, or all of a part of the network by the name of that part.

    Args:
        layers: All layers.
        wanted: Names such as ``stages.3.blocks.0.conv_dw``, or ``stages.3``.

    Raises:
        ValueError: A name fits no layer.
    """
    for name in wanted:
        if not any(_is_part(layer, name) for layer in layers):
            part = next((layer.rpartition('.')[0] for layer in layers if '.' in layer), layers[0])
            raise ValueError(
                f"layer '{name}' is unknown; choose from {first(list(layers), 8)}, or a part such as '{part}'"
            )
    return [layer for layer in layers if any(_is_part(layer, name) for name in wanted)]


def _is_part(layer: str, name: str) -> bool:
    return layer == name or layer.startswith(f'{name}.')


Say = Callable[[str], None]
"""Takes a line about what is being done."""


def quantiser_of(task: Task) -> Quantiser:
    """The quantiser of an artefact's engine.

    Raises:
        ValueError: The engine has none for written files, or a package is missing.
    """
    import importlib

    engine = task.manifest.engine
    if engine not in QUANTISERS:
        raise ValueError(
            f"'{task.path}' is of engine {engine}, whose files are not quantised after they are written; "
            f'choose from {", ".join(QUANTISERS)}'
        )
    module: Any = importlib.import_module(f'distill.export.quantise.{QUANTISERS[engine]}')
    return module.make(task)
