"""Whether an artefact computes what its model computes, and if not, from which layer on."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from distill.engines import Converter, Dynamic, Engine, Names, Transparent
from distill.engines.onnx_runtime import lowered
from distill.engines.portions import run_images
from distill.engines.tracing import exported_program, values_of

TOLERANCE = 1e-4
"""How far an output may be from the model's, relative to the largest one of the model."""
ITSELF = 'the network itself'
"""The module of what is computed between layers."""
SHOWN = 3
"""Layers that an error names at the most, of those that an engine has made part of the next one."""


@dataclass(frozen=True)
class Comparison:
    """How far outputs are from those that are expected.

    Attributes:
        max_difference: The largest difference, relative to the largest value that is expected of that output.
        mean_difference: The mean difference, in the same unit.
        agreement: Share of images with the same first class, ties aside; None for feature maps.
    """

    max_difference: float
    mean_difference: float
    agreement: float | None = None


def eager(model: nn.Module, images: np.ndarray, portion: int = 8) -> tuple[np.ndarray, ...]:
    """What a model returns for images, computed by torch as it is."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(images), portion):
            found = model(torch.from_numpy(images[start : start + portion]))
            parts.append([found] if isinstance(found, torch.Tensor) else list(found))
    return tuple(torch.cat(one).numpy() for one in zip(*parts, strict=True))


def compare(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], classifies: bool) -> Comparison:
    """Compare outputs with those that are expected.

    Args:
        found: Outputs of an artefact.
        expected: Outputs of its model.
        classifies: Whether the first output is logits [B, K].

    Raises:
        ValueError: There are other outputs than expected.
    """
    shapes = [one.shape for one in found], [one.shape for one in expected]
    if shapes[0] != shapes[1]:
        raise ValueError(f'its outputs have the shapes {shapes[0]}, and the model gives {shapes[1]}')
    worst, means = 0.0, []
    for one, other in zip(found, expected, strict=True):
        scale = max(float(np.abs(other).max()), float(np.finfo(np.float32).tiny))
        difference = np.abs(one.astype(np.float64) - other) / scale
        worst = max(worst, float(difference.max())) if np.isfinite(difference).all() else float('inf')
        means.append(float(difference.mean()))
    agreement = top1_agreement(found[0], expected[0]) if classifies else None
    return Comparison(worst, float(np.mean(means)), agreement)


def top1_agreement(found: np.ndarray, expected: np.ndarray, tie: float = TOLERANCE) -> float:
    """Share of rows with the same largest value.

    Args:
        found: Logits [B, K].
        expected: Logits [B, K].
        tie: Of the largest value: two classes whose expected logits are closer than this are one.
    """
    rows = np.arange(len(found))
    gap = expected.max(1) - expected[rows, found.argmax(1)]
    return float((gap <= tie * np.abs(expected).max()).mean())


def verify(
    engine: Engine,
    path: str | os.PathLike,
    network: nn.Module,
    inputs: np.ndarray,
    expected: Sequence[np.ndarray],
    names: Names,
    classifies: bool,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
) -> Comparison:
    """Run an artefact in its engine and compare it with its model.

    Args:
        engine: The engine.
        path: The artefact.
        network: What was exported, or torch's exported program of it, to find the first layer that differs.
        inputs: Images as the artefact takes them.
        expected: What the model returns for them.
        names: Of inputs and outputs.
        classifies: Whether the outputs are logits.
        tolerance: The largest difference that is allowed, see `Comparison`.
        threads: Of the engine.

    Raises:
        ValueError: The artefact differs by more; the message names the first layer, where the engine tells it.
    """
    comparison = compare(run_images(engine.open(path, threads), inputs), expected, classifies)
    if comparison.max_difference <= tolerance and comparison.agreement in (None, 1.0):
        return comparison
    where = first_difference(engine, path, network, inputs, names, tolerance)
    agreement = '' if comparison.agreement is None else f', {comparison.agreement:.1%} of the first classes agree'
    raise ValueError(
        f'{engine.name} differs from the model by {comparison.max_difference:.1e} of the largest output'
        f'{agreement}, and {tolerance:.0e} is allowed; {where}'
    )


def first_difference(
    engine: Engine,
    path: str | os.PathLike,
    network: nn.Module | Any,
    inputs: np.ndarray,
    names: Names,
    tolerance: float = TOLERANCE,
) -> str:
    """Where an artefact of one input begins to differ from its network, in words.

    Args:
        engine: The engine.
        path: The artefact.
        network: What was exported.
        inputs: Images as the artefact takes them.
        names: Of inputs and outputs.
        tolerance: As for the outputs.
    """
    if not isinstance(engine, Transparent):
        return f'{engine.name} does not tell what is computed inside'
    batch = engine.open(path).inputs[0].shape[0] or 2
    shown = np.resize(inputs, (batch, *inputs.shape[1:]))
    fixed: Dynamic = {}
    program = exported_program(network, (torch.from_numpy(shown),), names, fixed)
    return first_differing_layer(engine, path, program, names, {names.inputs[0]: shown}, tolerance)


def first_differing_layer(
    engine: Engine,
    path: str | os.PathLike,
    program: Any,
    names: Names,
    inputs: Mapping[str, np.ndarray],
    tolerance: float,
) -> str:
    """Where an artefact begins to differ from the program that it was made of, in words.

    Args:
        engine: The engine.
        path: The artefact.
        program: ``torch.export.ExportedProgram`` that it was made of.
        names: Of inputs and outputs.
        inputs: By name, in the program's order.
        tolerance: See `Comparison`.
    """
    if not isinstance(engine, Transparent):
        return f'{engine.name} does not tell what is computed inside'
    if engine.name == 'onnx' or isinstance(engine, Converter):  # The values have the names of the ONNX file.
        program = lowered(program, names)
    layers = _layers(program)
    expected = {
        name: value
        for name, value in values_of(program, list(inputs.values())).items()
        # What is computed between layers shows in the next one; engines order and name it otherwise.
        if value.size and np.issubdtype(value.dtype, np.floating) and layers[name] != ITSELF
    }
    found = engine.inner(path, dict(inputs), list(expected))
    compared, untold = 0, []
    for name, value in expected.items():
        if name not in found or found[name].shape != value.shape:
            untold.append(layers[name])
            continue
        compared += 1
        if compare([found[name]], [value], classifies=False).max_difference > tolerance:
            before = [f"'{one}'" for one in dict.fromkeys(untold) if one != layers[name]]
            also = f'; {engine.name} does not tell of {", ".join(before[:SHOWN])} before it' if before else ''
            return f"the first of its layers that differs is '{layers[name]}' ({name}){also}"
        untold = []
    return f'none of the {compared} values of layers that it tells differs by as much'


def _layers(program: Any) -> dict[str, str]:
    """The module of the network that each operation of an exported program comes from."""
    found = {}
    for node in program.graph.nodes:
        stack = list((node.meta.get('nn_module_stack') or {}).values())
        found[node.name] = (stack[-1][0] if stack else '') or ITSELF
    return found
