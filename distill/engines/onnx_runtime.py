"""ONNX files, which ONNX Runtime runs. torch's exporter writes them, with the weights inside."""

import contextlib
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.engines import Dynamic, Names, Port, Session, named_inputs
from distill.engines.installed import missing_modules, version_of
from distill.engines.quiet import caught_output
from distill.engines.tracing import exported_program

OPSET = 20
"""deform_conv2d is lowered from 20 on."""
DOMAINS = ('', 'ai.onnx', 'ai.onnx.ml', 'com.microsoft')
"""Operators that ONNX Runtime has itself. Others would need a library of code, which is never loaded."""
LAYER = 'pkg.torch.onnx.name_scopes'
"""Metadata of an operation: the modules of the network that it comes from, as a list, the operation itself last."""
TYPES = {'float': 'float32', 'double': 'float64'}
"""Types that numpy names otherwise."""


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
        model = _exported(exported_program(network, example, names, dynamic), names).model_proto
        _name_axes(model.graph, dynamic)
        for node in _nodes(model.graph):
            scopes = [one for one in node.metadata_props if one.key == LAYER]
            del node.metadata_props[:]  # Among them are the paths of the machine that exports.
            node.metadata_props.extend(scopes)
            _name_zero(node)
        Path(path).write_bytes(model.SerializeToString())

    def inner(
        self, path: str | os.PathLike, inputs: np.ndarray | Mapping[str, np.ndarray], names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `Engine.inner`."""
        import onnx
        import onnxruntime

        model = onnx.load(os.fspath(path))
        known = {name for node in model.graph.node for name in node.output}
        asked = [name for name in names if name in known]
        there = {one.name for one in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked if name not in there)
        session = onnxruntime.InferenceSession(model.SerializeToString(), _options(None), ['CPUExecutionProvider'])
        return dict(
            zip(asked, session.run(asked, named_inputs(inputs, OnnxSession(session, None).inputs)), strict=True)
        )

    def open(self, path: str | os.PathLike, threads: int | None = None, device: str = 'cpu') -> Session:
        """See `Engine.open`."""
        lacking = missing_modules('onnx', 'onnx', 'onnxruntime')
        if lacking:
            raise ValueError(f"'{path}' needs {lacking}")
        check_safe(path)
        import onnxruntime

        wanted = ['CUDAExecutionProvider'] if device.startswith('cuda') else []
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        try:
            session = onnxruntime.InferenceSession(
                os.fspath(path), _options(threads), [*providers, 'CPUExecutionProvider']
            )
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


def lowered(program: Any, names: Names) -> Any:
    """The exported program by whose operations the values of an ONNX file are named, which those of torch's are not.

    Args:
        program: ``torch.export.ExportedProgram`` that the file is made of.
        names: Of inputs and outputs.
    """
    return _exported(program, names).exported_program


def _exported(program: Any, names: Names) -> Any:
    """An exported program as torch's ``ONNXProgram``.

    Raises:
        ValueError: It cannot be written as ONNX.
    """
    import torch

    with caught_output(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            return torch.onnx.export(
                program,
                (),
                input_names=list(names.inputs),
                output_names=list(names.outputs),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ValueError(f'it cannot be written as ONNX ({_root(error)})') from error


@contextlib.contextmanager
def temporary_onnx(network: Any, example: tuple[Any, ...], names: Names, dynamic: Dynamic) -> Iterator[Path]:
    """Write a network as ONNX for the block, for an engine that starts from there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'model.onnx')
        ENGINE.write(network, example, path, names, dynamic)
        yield path


def add_metadata(path: str | os.PathLike, entries: Mapping[str, str]) -> None:
    """Add texts to the metadata of an ONNX file, in place of those of the same names."""
    import onnx

    model = onnx.load(os.fspath(path))
    kept = [one for one in model.metadata_props if one.key not in entries]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.extend(onnx.StringStringEntryProto(key=key, value=text) for key, text in entries.items())
    Path(path).write_bytes(model.SerializeToString())


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """The texts in the metadata of an ONNX file, by name."""
    import onnx

    model = onnx.load(os.fspath(path), load_external_data=False)
    return {one.key: one.value for one in model.metadata_props}


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
    for tensor in (tensor for graph in graphs for tensor in _tensors(graph)):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_location(path, [one.value for one in tensor.external_data if one.key == 'location'])
    return model


def _check_location(path: Path, locations: Sequence[str]) -> None:
    """Check that the data of a tensor lie in the folder of its file.

    Args:
        path: The file.
        locations: All that the tensor tells; of several ONNX Runtime takes the last, and others another one.
    """
    folder = path.absolute().parent  # Not that of what a link leads to: ONNX Runtime starts here.
    for location in locations or ['']:
        file = folder / location
        inside = file.resolve().is_relative_to(folder.resolve())
        if not location or Path(location).is_absolute() or not inside:
            raise ValueError(f"'{path}' has weights at '{location}', outside its folder; export it as one file")
        if not file.is_file():
            raise FileNotFoundError(f"'{path}' has weights in '{file}', which does not exist; copy both files")


def _nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph or function, and those of the graphs inside."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField('g') else []), *attribute.graphs]:
                yield from _nodes(inner)


def _name_zero(node: Any) -> None:
    """Write down the zero of a ``ConstantOfShape`` without a value, which MNN reads from whatever the memory holds."""
    if node.op_type == 'ConstantOfShape' and not node.attribute:
        import onnx

        zero = onnx.helper.make_tensor('value', onnx.TensorProto.FLOAT, [1], [0.0])
        node.attribute.append(onnx.helper.make_attribute('value', zero))


def _tensors(graph: Any) -> Iterator[Any]:
    """The tensors that a graph or function holds, and those of the graphs inside."""
    yield from getattr(graph, 'initializer', ())
    for sparse in getattr(graph, 'sparse_initializer', ()):
        yield from (sparse.values, sparse.indices)
    defaults = getattr(graph, 'attribute_proto', ())
    for attribute in (*defaults, *(one for node in graph.node for one in node.attribute)):
        yield from [*([attribute.t] if attribute.HasField('t') else []), *attribute.tensors]
        single = [attribute.sparse_tensor] if attribute.HasField('sparse_tensor') else []
        for sparse in [*single, *attribute.sparse_tensors]:
            yield from (sparse.values, sparse.indices)
        for inner in [*([attribute.g] if attribute.HasField('g') else []), *attribute.graphs]:
            yield from _tensors(inner)


def _options(threads: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def _name_axes(graph: Any, dynamic: Dynamic) -> None:
    """Give the axes of any size the names that the caller has for them, in place of torch's symbols."""
    named = {}
    for value in graph.input:
        for axis, label in dynamic.get(value.name, {}).items():
            named[value.type.tensor_type.shape.dim[axis].dim_param] = label
    named.pop('', None)
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r'\b\w+\b', lambda found: named.get(found[0], found[0]), dim.dim_param)


def _root(error: BaseException) -> str:
    """The first cause of an error, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().partition('\n')[0] or type(error).__name__)[:300]


def _port(value: Any) -> Port:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    kind = value.type.removeprefix('tensor(').removesuffix(')')
    return Port(value.name, shape, TYPES.get(kind, kind))


def _unreadable(path: str | os.PathLike, error: Exception) -> str:
    reason = str(error).partition('\n')[0]
    return f"'{path}' cannot be read as ONNX ({reason}); export it again"


ENGINE = OnnxRuntime()
