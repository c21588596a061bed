"""Quantise ONNX files by ONNX Runtime: static QDQ, weights per channel, activations per tensor, biases corrected."""

import ast
import contextlib
import logging
import os
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from distill.engines.onnx_runtime import LAYER, add_metadata
from distill.engines.quiet import caught_output
from distill.export.quantise.calibration import Calibration
from distill.export.quantise.onnx_weights import LARGEST, correct_biases, moved_means, weights_of
from distill.export.quantise.quantiser import SUMS_FIT, WEIGHT, Operation, Task, layer_names, off_the_path

LAYERS = ('Conv', 'ConvTranspose', 'Gemm', 'MatMul')
"""Operations with most of the cost. Others, such as sums, are quantised between them."""
ACTIVATIONS = ('Relu', 'Clip')
"""Operations that become part of the range of the layer before them, if that layer is quantised."""
METHOD = 'ONNX Runtime static QDQ, uint8 activations (minimum and maximum), int8 weights per channel, biases corrected'


class OnnxQdq:
    """See `Quantiser`."""

    can_keep = True
    fixed: tuple[str, ...] = ()

    def __init__(self, task: Task):
        import onnx
        from onnxruntime.quantization.shape_inference import quant_pre_process

        self.task = task
        self.method = METHOD + (SUMS_FIT if task.reduce_range else '')
        self.prepared = task.folder / 'prepared.onnx'
        self.ranges = task.folder / 'ranges.json'
        with _quiet():
            # The symbolic shape inference is for sequences; it fails on some networks.
            quant_pre_process(os.fspath(task.path), os.fspath(self.prepared), skip_symbolic_shape=True)
        graph = onnx.load(os.fspath(self.prepared)).graph
        given = onnx.load(os.fspath(task.path))
        self.metadata = {one.key: one.value for one in given.metadata_props}
        modules = {node.name: _module(node) for node in given.graph.node}  # The preparation drops this.
        nodes = [node for node in graph.node if node.op_type in LAYERS]
        stored = {tensor.name for tensor in graph.initializer}
        weights = [next((name for name in node.input[1:2] if name in stored), '') for node in nodes]
        weights = [
            weight if weight.endswith(WEIGHT) else modules.get(node.name, '')
            for weight, node in zip(weights, nodes, strict=True)
        ]
        self.layers = layer_names([(weight, node.name) for weight, node in zip(weights, nodes, strict=True)])
        self._nodes = {layer: node.name for layer, node in zip(self.layers, nodes, strict=True)}
        self._weights = weights_of(graph, self._nodes.values())
        self._moved: dict[str, np.ndarray] = {}
        self._others = self._off_the_path(graph) if task.calibration.sizes else []
        self._activations = [
            node.name for node in graph.node if node.op_type in ACTIVATIONS and node.name not in self._others
        ]

    def write(self, out: str | os.PathLike, keep: Collection[str] = ()) -> None:
        """See `Quantiser.write`."""
        kept = [self._nodes[layer] for layer in keep]
        self._write(out, self._weights.keys() - kept, nodes_to_exclude=[*kept, *self._others])

    def write_only(self, out: str | os.PathLike, layer: str, calibration: Calibration) -> None:
        """See `Quantiser.write_only`; the ranges are those of all images, which are measured once."""
        self._write(out, [self._nodes[layer]], nodes_to_quantize=[self._nodes[layer], *self._activations])

    def _off_the_path(self, graph: Any) -> list[str]:
        """Operations that are no part of what the layers see: see `off_the_path`."""
        made_by = {name: node.name for node in graph.node for name in node.output}
        operations = {
            node.name: Operation(node.op_type, tuple(made_by.get(name, '') for name in node.input))
            for node in graph.node
        }
        return off_the_path(operations, self._nodes.values())

    def _write(self, out: str | os.PathLike, quantised: Collection[str], **nodes: list[str]) -> None:
        import onnx

        if not self._moved:
            self._moved = moved_means(self.prepared, self._weights, self.task.reduce_range, _Reader(self.task))
            # The ranges are those of the network, not of the one with other biases. One layer is the least that asks.
            one = list(self._nodes.values())[:1]
            self._run(self.prepared, self.task.folder / 'ranges.onnx', nodes_to_quantize=one)
        quantised = [name for name in self._weights if name in quantised]
        model, corrected = onnx.load(os.fspath(self.prepared)), self.task.folder / 'corrected.onnx'
        correct_biases(model.graph, {name: self._moved[name] for name in quantised})
        onnx.save(model, os.fspath(corrected))
        self._run(corrected, out, extra_options={'TensorQuantOverrides': self._overrides(quantised)}, **nodes)
        add_metadata(out, self.metadata)

    def _run(self, path: str | os.PathLike, out: str | os.PathLike, **options: Any) -> None:
        from onnxruntime.quantization import QuantType, quantize_static

        with _quiet():
            quantize_static(
                os.fspath(path),
                os.fspath(out),
                _Reader(self.task),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibration_cache_path=self.ranges,
                **options,
            )

    def _overrides(self, quantised: Collection[str]) -> dict[str, list[dict]]:
        """The steps of weights, as `quantize_static` takes them."""
        from onnxruntime.quantization import QuantType

        found = {}
        for weight in (self._weights[name] for name in quantised):
            common = {'axis': weight.axis, 'quant_type': QuantType.QInt8, 'symmetric': True}
            largest = LARGEST * weight.steps(self.task.reduce_range)
            found[weight.name] = [{**common, 'rmin': -value, 'rmax': value} for value in largest]
        return found


class _Reader:
    """Calibration images as `onnxruntime.quantization.CalibrationDataReader` gives them."""

    def __init__(self, task: Task):
        import onnxruntime

        # The name of the input is not in the manifest.
        session = onnxruntime.InferenceSession(os.fspath(task.path), providers=['CPUExecutionProvider'])
        self.name = session.get_inputs()[0].name
        self.batches: Iterator = task.calibration.inputs(task.manifest, task.manifest.batch or 1)

    def get_next(self) -> dict[str, Any] | None:
        """The next input by name, or None at the end."""
        batch = next(self.batches, None)
        return batch if batch is None or isinstance(batch, dict) else {self.name: batch}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (one := self.get_next()) is not None:
            yield one


def _module(node: Any) -> str:
    """Name of the weight of the module that a node comes from, as the exporter has noted; '' if it has not."""
    for one in node.metadata_props:
        if one.key == LAYER:
            with contextlib.suppress(ValueError, SyntaxError, IndexError):
                return f'{ast.literal_eval(one.value)[-2]}{WEIGHT}'
    return ''


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without ONNX Runtime's advice, which it logs at the root."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with caught_output():
            yield
    finally:
        logging.disable(before)


def make(task: Task) -> OnnxQdq:
    """The quantiser of an ONNX file."""
    return OnnxQdq(task)
