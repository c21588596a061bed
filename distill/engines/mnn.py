"""MNN's files, made of an ONNX file.

``MNN.tools`` is never imported: its import installs a package with pip and reports each conversion to a server. The
converter itself is the extension module ``_tools``.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.engines import Dynamic, Names, Port, Session, named_inputs
from distill.engines.installed import missing_modules, version_of
from distill.engines.onnx_runtime import ENGINE as ONNX
from distill.engines.onnx_runtime import temporary_onnx
from distill.engines.quiet import caught_output, last_line

MARK = 'any:'
"""MNN does not tell which axes are of any size. What the exporter knows stands in the file's code, after this."""
TYPES = {'float': 'float32', 'uint8': 'uint8', 'int': 'int32', 'int8': 'int8'}


class Mnn:
    """MNN on the CPU."""

    name = 'mnn'
    suffix = '.mnn'

    def missing(self) -> str | None:
        """See `Engine.missing`."""
        return missing_modules('mnn', 'MNN') or ONNX.missing()

    def version(self) -> str:
        """See `Engine.version`."""
        return version_of('mnn')

    def write(
        self, network: Any, example: tuple[Any, ...], path: str | os.PathLike, names: Names, dynamic: Dynamic
    ) -> None:
        """See `Engine.write`."""
        with temporary_onnx(network, example, names, dynamic) as onnx:
            self.convert(onnx, path, dynamic)

    def convert(self, onnx: str | os.PathLike, path: str | os.PathLike, dynamic: Dynamic, *options: str) -> None:
        """Write what an ONNX file holds.

        Args:
            onnx: The file to convert.
            path: The file to write.
            dynamic: Axes of any size, which MNN does not keep itself.
            *options: Further options of MNN's converter, such as ``--fp16``.

        Raises:
            ValueError: MNN does not convert it.
        """
        mark = MARK + ';'.join(f'{name}={",".join(map(str, sorted(axes)))}' for name, axes in dynamic.items())
        if said := convert('ONNX', onnx, path, mark, *options):
            raise ValueError(f'MNN does not convert it ({said})')

    def open(self, path: str | os.PathLike, threads: int | None = None, device: str = 'cpu') -> Session:
        """See `Engine.open`."""
        lacking = missing_modules('mnn', 'MNN')
        if lacking:
            raise ValueError(f"'{path}' needs {lacking}")
        if not Path(path).is_file():
            raise FileNotFoundError(f"model '{path}' does not exist; export it first or correct the path")
        return MnnSession(path, threads)

    def inner(
        self, path: str | os.PathLike, inputs: np.ndarray | Mapping[str, np.ndarray], names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `Engine.inner`. Activations are part of the convolution before them, which then has their name."""
        with caught_output():
            import MNN

            known = MNN.expr.load_as_dict(os.fspath(path))
        asked = [name for name in names if name in known]
        found = MnnSession(path, None, asked).run(inputs) if asked else ()
        return dict(zip(asked, found, strict=True))


def run_tool(name: str, *arguments: str) -> str:
    """Run a tool of MNN in a process of its own, which may end with a signal, and in a folder of its own.

    The converter keeps the weights of a model for a while in a file of one fixed name in the working directory, so that
    two that run in one folder mix up their weights.

    Args:
        name: ``mnnconvert`` or ``mnnquant``.
        *arguments: Of its command line; paths are absolute.

    Returns:
        Nothing if it has done its work, otherwise why not.
    """
    code = f'import sys, _tools; sys.exit(not _tools.{name}(["{name}", *sys.argv[1:]]))'
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, '-c', code, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors='replace', check=False)
    if not done.returncode:
        return ''
    return last_line(done.stderr) or last_line(done.stdout) or f'it ended with {done.returncode}'


def convert(kind: str, source: str | os.PathLike, out: str | os.PathLike, mark: str, *options: str) -> str:
    """Write a file of MNN.

    Args:
        kind: ``ONNX`` or ``MNN``.
        source: The file to convert.
        out: The file to write.
        mark: What the file says of axes of any size, see `MARK`.
        *options: Further options of MNN's converter.

    Returns:
        Nothing if the file is written, otherwise why not.
    """
    files = ['--modelFile', os.path.abspath(source), '--MNNModel', os.path.abspath(out)]
    said = run_tool('mnnconvert', '-f', kind, *files, '--bizCode', mark, *options)
    return said or ('' if os.path.isfile(out) else 'it does not say why')


class MnnSession:
    """An opened MNN file.

    Args:
        path: The file.
        threads: Threads, or None for MNN's own choice.
        outputs: Names of values inside to return in place of the outputs.
    """

    def __init__(self, path: str | os.PathLike, threads: int | None, outputs: Sequence[str] | None = None):
        with caught_output() as said:
            import MNN

            settings = {'backend': 'CPU', 'precision': 'high', 'numThread': threads or 4}
            self.manager = MNN.nn.create_runtime_manager((settings,))
            try:
                info = self._load(MNN, path, [], []).get_info()
                names = list(info['outputNames'] if outputs is None else outputs)
                self.module = self._load(MNN, path, info['inputNames'], names)
                given = MNN.expr.load_as_dict(os.fspath(path))
            except (SystemError, RuntimeError, TypeError, KeyError) as error:
                reason = last_line(said()) or error
                raise ValueError(f"'{path}' cannot be read by MNN ({reason}); export it again") from None
        self.MNN, self.path, self.threads = MNN, path, threads
        self._shapes: list[tuple[int, ...]] | None = None
        free = _marked(info.get('bizCode', ''))
        self.inputs = tuple(
            _port(name, given[name].shape, given[name].dtype, free.get(name, ())) for name in info['inputNames']
        )
        # MNN computes the shapes of outputs when it runs.
        self.outputs = tuple(Port(name, (), 'float32') for name in names)

    def _load(self, MNN: Any, path: str | os.PathLike, inputs: list[str], outputs: list[str]) -> Any:
        return MNN.nn.load_module_from_file(os.fspath(path), inputs, outputs, runtime_manager=self.manager)

    def run(self, inputs: np.ndarray | Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """See `Session.run`."""
        expr = self.MNN.expr
        kinds = {'float32': expr.float, 'uint8': expr.uint8, 'int32': expr.int}
        given = named_inputs(_narrow(inputs), self.inputs)
        variables = [
            expr.const(given[port.name], list(given[port.name].shape), expr.NCHW, kinds[port.dtype])
            for port in self.inputs
        ]
        shapes = [given[port.name].shape for port in self.inputs]
        if self._shapes not in (None, shapes):
            # A module of int8 computes something else once it has seen another shape.
            names = ([port.name for port in self.inputs], [port.name for port in self.outputs])
            self.module = self._load(self.MNN, self.path, *names)
        self._shapes = shapes
        found = self.module.forward(variables)
        if len(found) != len(self.outputs):
            raise ValueError(f'MNN gives {len(found)} outputs of {len(self.outputs)}; the input is not one it takes')
        return tuple(np.array(_plain(expr, one).read()) for one in found)


def _narrow(inputs: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray | dict[str, np.ndarray]:
    """Inputs in the types that MNN has: its whole numbers are of 32 bits."""
    if isinstance(inputs, np.ndarray):
        return inputs
    return {name: one.astype(np.int32) if one.dtype == np.int64 else one for name, one in inputs.items()}


def _plain(expr: Any, variable: Any) -> Any:
    """A variable in the layout of numpy; MNN packs channels in fours inside."""
    return expr.convert(variable, expr.NCHW) if variable.data_format == expr.NC4HW4 else variable


def _marked(code: str) -> dict[str, tuple[int, ...]]:
    """The axes of any size, by the name of the input, as `Mnn.convert` has marked them."""
    if not code.startswith(MARK):
        return {}
    entries = [entry.rpartition('=') for entry in code.removeprefix(MARK).split(';')]
    return {name: tuple(int(axis) for axis in axes.split(',') if axis.isdigit()) for name, _, axes in entries}


def _port(name: str, shape: tuple[int, ...], dtype: Any, free: tuple[int, ...]) -> Port:
    sizes = tuple(None if axis in free or size < 1 else size for axis, size in enumerate(shape))
    return Port(name, sizes, TYPES.get(str(dtype).rpartition('.')[2], 'float32'))


ENGINE = Mnn()
