"""ONNX files, which ONNX Runtime runs. torch's exporter writes them, with the weights inside."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill.engines import Dynamic, Names, Port, Session, named_inputs
from distill.engines.installed import missing_modules, version_of
from distill.engines.tracing import exported_program

OPSET = 20
"""deform_conv2d is lowered from 20 on."""
DOMAINS = ('', 'ai.onnx', 'ai.onnx.ml', 'com.microsoft')
"""Operators that ONNX Runtime has itself. Others would need a library of code, which is never loaded."""
TYPES = {'tensor(float)': 'float32', 'tensor(float16)': 'float16', 'tensor(uint8)': 'uint8', 'tensor(int8)': 'int8',
         'tensor(int64)': 'int64', 'tensor(int32)': 'int32', 'tensor(double)': 'float64', 'tensor(bool)': 'bool'}  # fmt: skip


class OnnxRuntime:
    """ONNX Runtime."""

    name = 'onnx'
    suffix = '.onnx'

    def missing(self) -> str | None:
        """See `Engine.missing`."""
        return missing_modules('onnx', 'onnx', 'onnxruntime', 'onnxscript')

    def version(self) -> str:
        """See `Engine.version`."""
        return version_of('onnxruntime')

    def write(
        self, network: Any, example: tuple[Any, ...], path: str | os.PathLike, names: Names, dynamic: Dynamic
    ) -> None:
        """See `Engine.write`."""
        import torch

        program = exported_program(network, example, names, dynamic)
        written = torch.onnx.export(
            program,
            (),
            input_names=list(names.inputs),
            output_names=list(names.outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        assert written is not None
        written.save(os.fspath(path), external_data=False)

    def open(self, path: str | os.PathLike, threads: int | None = None, device: str = 'cpu') -> Session:
        """See `Engine.open`."""
        lacking = missing_modules('onnx', 'onnx', 'onnxruntime')
        if lacking:
            raise ValueError(f"'{path}' needs {lacking}")
        check_safe(path)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        wanted = ['CUDAExecutionProvider'] if device.startswith('cuda') else []
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        try:
            session = onnxruntime.InferenceSession(os.fspath(path), options, [*providers, 'CPUExecutionProvider'])
        except Exception as error:  # onnxruntime's exceptions have no common class of their own
            raise ValueError(_unreadable(path, error)) from None
        return OnnxSession(session, threads)


class OnnxSession:
    """An opened ONNX file."""

    def __init__(self, session: Any, threads: int | None):
        self.session = session
        self.threads = threads
        self.inputs = tuple(_port(one) for one in session.get_inputs())
        self.outputs = tuple(_port(one) for one in session.get_outputs())

    def run(self, inputs: np.ndarray | Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """See `Session.run`."""
        return tuple(self.session.run(None, named_inputs(inputs, self.inputs)))


def check_safe(path: str | os.PathLike) -> Any:
    """Check that opening a file reads nothing but its folder and needs no code but ONNX Runtime's.

    Returns:
        The model, without data that lies outside of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not ONNX, has data elsewhere, or an operator of somebody's own.
    """
    import onnx

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"model '{path}' does not exist; export it first or correct the path")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's class of errors depends on its build
        raise ValueError(_unreadable(path, error)) from None
    functions = {(one.domain, one.name) for one in model.functions}
    graphs = [model.graph, *model.functions]
    for node in (node for graph in graphs for node in _nodes(graph)):
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in functions:
            raise ValueError(
                f"'{path}' has the operator {node.domain}::{node.op_type}, which needs a library of code, and none is "
                'loaded; export it with the operators of ONNX only'
            )
    folder = path.resolve().parent
    for tensor in (tensor for graph in graphs for tensor in _tensors(graph)):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((one.value for one in tensor.external_data if one.key == 'location'), '')
        file = folder / location
        if not location or Path(location).is_absolute() or not file.resolve().is_relative_to(folder):
            raise ValueError(f"'{path}' has weights at '{location}', outside its folder; export it as one file")
        if not file.is_file():
            raise FileNotFoundError(f"'{path}' has weights in '{file}', which does not exist; copy both files")
    return model


def _nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph or function, and those of the graphs inside."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField('g') else []), *attribute.graphs]:
                yield from _nodes(inner)


def _tensors(graph: Any) -> Iterator[Any]:
    """The tensors that a graph or function holds, and those of the graphs inside."""
    yield from getattr(graph, 'initializer', ())
    for sparse in getattr(graph, 'sparse_initializer', ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from [*([attribute.t] if attribute.HasField('t') else []), *attribute.tensors]
            for inner in [*([attribute.g] if attribute.HasField('g') else []), *attribute.graphs]:
                yield from _tensors(inner)


def _port(value: Any) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Port(value.name, shape, TYPES.get(value.type, value.type))


def _unreadable(path: str | os.PathLike, error: Exception) -> str:
    reason = str(error).partition('\n')[0]
    return f"'{path}' cannot be read as ONNX ({reason}); export it again"


ENGINE = OnnxRuntime()
