"""OpenVINO's intermediate representation, an ``.xml`` with its ``.bin``, made of an ONNX file."""

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.engines import Dynamic, Names, Port, Session, named_inputs
from distill.engines.installed import missing_modules, version_of
from distill.engines.onnx_runtime import ENGINE as ONNX
from distill.engines.onnx_runtime import temporary_onnx
from distill.engines.quiet import caught_output, last_line

OPENINGS = (b'<?xml', b'<net')
"""How a file of OpenVINO begins. Another one is not shown to its frontends for other formats."""
EXACT = {'INFERENCE_PRECISION_HINT': 'f32'}
"""On processors that have bfloat16 OpenVINO computes in it, unless it is told not to."""


PRECISION_INFO = ['robust_backbones', 'inference_precision']
"""Where a file says that it is to be computed in another type than fp32: ``bf16``."""


@functools.cache
def core() -> Any:
    """OpenVINO's core, one for the whole process, which lives as long as it.

    Each core that compiles gives the thread a stack for signals, and puts the one before it back when it ends. When
    the first of two ends first, the thread is left with a stack whose memory is gone (seen in OpenVINO 2026.4), and the
    next signal, such as that of a data loader's worker that has ended, ends the process.
    """
    import openvino

    return openvino.Core()


@contextlib.contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Leave the thread its stack for signals, whatever cores of others do in the block; see `core`."""
    if sys.platform != 'linux':
        yield
        return
    # The C structure has a pointer, an int and a size, which fill three words.
    before = (ctypes.c_size_t * 3)()
    sigaltstack = ctypes.CDLL(None).sigaltstack
    sigaltstack(None, before)
    try:
        yield
    finally:
        sigaltstack(before, None)


class OpenVino:
    """OpenVINO on the CPU."""

    name = 'openvino'
    suffix = '.xml'

    def missing(self) -> str | None:
        """See `Engine.missing`."""
        return missing_modules('openvino', 'openvino') or ONNX.missing()

    def version(self) -> str:
        """See `Engine.version`."""
        return version_of('openvino')

    def write(
        self, network: Any, example: tuple[Any, ...], path: str | os.PathLike, names: Names, dynamic: Dynamic
    ) -> None:
        """See `Engine.write`."""
        with temporary_onnx(network, example, names, dynamic) as onnx:
            self.convert(onnx, path, dynamic)

    def convert(self, onnx: str | os.PathLike, path: str | os.PathLike, dynamic: Dynamic) -> None:
        """See `Converter.convert`."""
        import openvino

        try:
            with caught_output():
                model = core().read_model(os.fspath(onnx))
        except RuntimeError as error:
            reason = next((line for line in str(error).splitlines() if 'No conversion rule' in line), '')
            raise ValueError(f'OpenVINO does not read it ({reason.strip("- ") or last_line(str(error))})') from None
        with caught_output():
            openvino.save_model(model, os.fspath(path), compress_to_fp16=False)

    def open(self, path: str | os.PathLike, threads: int | None = None, device: str = 'cpu') -> Session:
        """See `Engine.open`."""
        return OpenVinoSession(_read(path), path, threads)

    def inner(
        self, path: str | os.PathLike, inputs: np.ndarray | Mapping[str, np.ndarray], names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `Engine.inner`."""
        model = _read(path)
        known = {name for op in model.get_ordered_ops() for out in op.outputs() for name in out.get_names()}
        asked = [name for name in names if name in known]
        count = len(model.outputs)
        if asked:
            model.add_outputs(asked)
        found = OpenVinoSession(model, path, None).run(inputs)
        return dict(zip(asked, found[count:], strict=True))


class OpenVinoSession:
    """An opened and compiled model of OpenVINO."""

    def __init__(self, model: Any, path: str | os.PathLike, threads: int | None):
        settings: dict[str, Any] = {**EXACT, **({} if threads is None else {'INFERENCE_NUM_THREADS': threads})}
        if model.has_rt_info(PRECISION_INFO) and model.get_rt_info(PRECISION_INFO).astype(str) == 'bf16':
            settings['INFERENCE_PRECISION_HINT'] = 'bf16'
        try:
            with caught_output():
                self.compiled = core().compile_model(model, 'CPU', settings)
        except RuntimeError as error:
            raise ValueError(_unreadable(path, error)) from None
        self.threads = threads
        self.inputs = tuple(_port(one) for one in self.compiled.inputs)
        self.outputs = tuple(_port(one) for one in self.compiled.outputs)

    def run(self, inputs: np.ndarray | Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """See `Session.run`."""
        found = self.compiled(named_inputs(inputs, self.inputs))
        return tuple(np.array(found[index]) for index in range(len(self.outputs)))


def _read(path: str | os.PathLike) -> Any:
    """Read a file of OpenVINO. Extensions, which are libraries of code, are never added."""
    lacking = missing_modules('openvino', 'openvino')
    if lacking:
        raise ValueError(f"'{path}' needs {lacking}")
    if not Path(path).is_file():
        raise FileNotFoundError(f"model '{path}' does not exist; export it first or correct the path")
    with Path(path).open('rb') as file:
        if not file.read(64).lstrip(b'\xef\xbb\xbf \r\n\t').startswith(OPENINGS):
            raise ValueError(_unreadable(path, 'it is no XML'))
    weights = Path(path).with_suffix('.bin')
    if not weights.is_file():
        raise FileNotFoundError(f"'{path}' has its weights in '{weights}', which does not exist; copy both files")
    try:
        with caught_output():
            return core().read_model(os.fspath(path), os.fspath(weights))
    except RuntimeError as error:
        raise ValueError(_unreadable(path, error)) from None


def _port(value: Any) -> Port:
    shape = tuple(None if size.is_dynamic else size.get_length() for size in value.partial_shape)
    return Port(value.any_name, shape, np.dtype(value.element_type.to_dtype()).name)


def _unreadable(path: str | os.PathLike, error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else 'it is damaged'
    return f"'{path}' cannot be read by OpenVINO ({reason}); export it again"


ENGINE = OpenVino()
