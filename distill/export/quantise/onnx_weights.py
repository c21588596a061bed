"""int8 weights of an ONNX file: steps with which no sum saturates, and biases that make up for what rounding moves."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LARGEST = 127
LARGEST_PAIR = 128
"""The most that two neighbouring weights may sum up to: with activations of 255 that is 32,640, which 16 bits hold."""


@dataclass(frozen=True)
class Weight:
    """The weight of a layer.

    Attributes:
        name: Of the tensor.
        values: The tensor.
        axis: Of the output channels.
        is_product: Whether the layer is computed as a product of matrices, whose sums go through 16 bits without VNNI.
    """

    name: str
    values: np.ndarray
    axis: int
    is_product: bool

    def steps(self, without_vnni: bool) -> np.ndarray:
        """The step of each output channel, float32 [C]: the largest weight is 127 of them.

        Args:
            without_vnni: Wider where two neighbours would not fit into 16 bits. Neighbours are as ONNX Runtime has
                them: the input channels of one place of the kernel, then those of the next.
        """
        rows = np.moveaxis(self.values, self.axis, 0)
        rows = (np.moveaxis(rows, 1, -1) if rows.ndim > 2 else rows).reshape(len(rows), -1)
        steps = np.abs(rows).max(axis=1) / LARGEST
        if without_vnni and self.is_product:
            pairs = np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).reshape(len(rows), -1, 2)
            sums = [np.maximum(sign * pairs, 0).sum(axis=2).max(axis=1) for sign in (1, -1)]
            steps = np.maximum(steps, np.maximum(*sums) / LARGEST_PAIR)
        return np.maximum(steps, np.finfo(np.float32).tiny).astype(np.float32)

    def error(self, steps: np.ndarray) -> np.ndarray:
        """What rounding adds to each value."""
        steps = steps.reshape([-1 if axis == self.axis else 1 for axis in range(self.values.ndim)])
        rounded = (self.values / steps).round().clip(-LARGEST, LARGEST) * steps
        return (rounded - self.values).astype(np.float32)


def weights_of(graph: Any, nodes: Collection[str]) -> dict[str, Weight]:
    """The weights of layers, by the names of their operations; a product of two activations has none."""
    from onnx.numpy_helper import to_array

    stored, found = {tensor.name: tensor for tensor in graph.initializer}, {}
    for node in graph.node:
        if node.name not in nodes or node.input[1] not in stored:
            continue
        values = to_array(stored[node.input[1]])
        options = {one.name: one.i for one in node.attribute}
        groups, last = options.get('group', 1), values.ndim - 1
        axis = {'Conv': 0, 'ConvTranspose': 1, 'Gemm': 0 if options.get('transB') else 1, 'MatMul': last}
        # A depthwise convolution has a kernel of its own, and a transposed one is computed in fp32.
        is_product = node.op_type != 'ConvTranspose' and not (groups > 1 and values.shape[:2] == (groups, 1))
        found[node.name] = Weight(node.input[1], values, axis[node.op_type], is_product)
    return found


def moved_means(
    path: str | os.PathLike, weights: Mapping[str, Weight], without_vnni: bool, batches: Iterable[dict]
) -> dict[str, np.ndarray]:
    """By how much the rounding of a layer's weights moves the mean of each of its output channels.

    Each layer gets a twin, whose weights are the errors of rounding, on the same input.

    Args:
        path: The fp32 file.
        weights: Of the layers, by the names of their operations.
        without_vnni: See `Weight.steps`.
        batches: Inputs by name.

    Returns:
        float32 [C] by the name of the operation.
    """
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    model = onnx.load(os.fspath(path))
    graph, of = model.graph, {}
    del graph.output[:]
    for node in [one for one in graph.node if one.name in weights]:
        weight, name = weights[node.name], f'moved {node.name}'
        graph.initializer.append(numpy_helper.from_array(weight.error(weight.steps(without_vnni)), f'{name} error'))
        twin = helper.make_node(node.op_type, [node.input[0], f'{name} error'], [f'{name} all'])
        twin.attribute.extend(node.attribute)
        graph.node.append(twin)
        axes = [axis for axis in range(weight.values.ndim) if axis != 1]
        if node.op_type == 'MatMul':  # Of any number of axes, the channels last.
            graph.initializer.append(numpy_helper.from_array(np.array([-1, weight.values.shape[-1]]), f'{name} rows'))
            graph.node.append(helper.make_node('Reshape', [f'{name} all', f'{name} rows'], [f'{name} flat']))
            axes = [0]
        graph.initializer.append(numpy_helper.from_array(np.array(axes), f'{name} axes'))
        full = f'{name} flat' if node.op_type == 'MatMul' else f'{name} all'
        graph.node.append(helper.make_node('ReduceMean', [full, f'{name} axes'], [name], keepdims=0))
        graph.output.append(onnx.ValueInfoProto(name=name))
        of[name] = node.name
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    total, count = defaultdict(float), 0
    for batch in batches:
        for name, mean in zip(of, session.run(list(of), batch), strict=True):
            total[of[name]] = total[of[name]] + mean
        count += 1
    return {name: mean / count for name, mean in total.items()}


def correct_biases(graph: Any, moved: Mapping[str, np.ndarray]) -> None:
    """Take from the biases of layers what rounding adds to their outputs; a layer without a bias gets one.

    A bias that other layers have too, such as that of a head on several maps, becomes one for each of them. A product
    of sequences has its bias in the sum after it, and without that none.

    Args:
        graph: Graph of the fp32 file, which is changed.
        moved: Of `moved_means`, of the layers that are quantised.
    """
    from onnx.numpy_helper import from_array, to_array

    stored, takers = {tensor.name: tensor for tensor in graph.initializer}, defaultdict(list)
    for node in graph.node:
        for name in node.input:
            takers[name].append(node)
    for node in [one for one in graph.node if one.name in moved]:
        place, after = (node, 2) if node.op_type != 'MatMul' else _sum_after(node, takers, stored)
        if place is None or (place.input[after : after + 1] and place.input[after] not in stored):
            continue
        bias, name = -moved[node.name], f'{node.name} bias'
        if after < len(place.input):
            bias = bias + to_array(stored[place.input[after]])
            place.input[after] = name
        else:
            place.input.append(name)
        graph.initializer.append(from_array(bias.astype(np.float32), name))


def _sum_after(node: Any, takers: Mapping[str, list], stored: Mapping[str, Any]) -> tuple[Any, int]:
    """The sum of a product and a stored bias, and which of its inputs that is; None if there is no such sum."""
    after = takers[node.output[0]]
    if len(after) != 1 or after[0].op_type != 'Add':
        return None, 0
    places = [index for index, name in enumerate(after[0].input) if name in stored]
    return (after[0], places[0]) if places else (None, 0)
