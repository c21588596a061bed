"""Engines that run exported networks, one a file: what each writes and how each is asked to run.

An artefact is data: opening one runs none of its code. What crosses the border of an engine is numpy arrays.
`distill.export` writes artefacts and verifies them; the judge and the other rooms open them by `open_artefact`.

This module is light, so that a command can check names and endings before it imports torch.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

# These libraries keep a number in the user's folders and report to a server as soon as they are imported: ONNX Runtime
# unless the environment says no, OpenVINO and NNCF by a package that they do without where it is not there.
os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')
sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]

MODULES = {
    'onnx': 'onnx_runtime',
    'openvino': 'openvino',
    'mnn': 'mnn',
    'executorch': 'executorch',
    'torch': 'torch_export',
}
"""Engines by the name that commands take, and the module of each."""
SUFFIXES = {'.onnx': 'onnx', '.xml': 'openvino', '.mnn': 'mnn', '.pte': 'executorch', '.pt2': 'torch'}
"""Endings of artefacts, and the engine that runs them."""


@dataclass(frozen=True)
class Port:
    """An input or output of a network.

    Attributes:
        name: The name in the file.
        shape: Sizes of its axes, None where any size goes.
        dtype: numpy's name of the type.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class Names:
    """Names of the inputs and outputs of a network, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


Dynamic = Mapping[str, Mapping[int, str]]
"""For each input the axes of any size, with a name for each: ``{'images': {0: 'batch', 2: 'height', 3: 'width'}}``."""


class Session(Protocol):
    """An opened artefact.

    Attributes:
        inputs: What `run` takes.
        outputs: What `run` returns.
        threads: Threads that the engine was given, or None for its own choice.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    threads: int | None

    def run(self, inputs: 'np.ndarray | Mapping[str, np.ndarray]') -> 'tuple[np.ndarray, ...]':
        """Run the network.

        Args:
            inputs: The input, or each input by name.

        Returns:
            The outputs, in order.

        Raises:
            ValueError: An input is not one that the artefact takes.
        """
        ...


class Engine(Protocol):
    """An engine.

    Attributes:
        name: The name that commands take.
        suffix: Ending of its artefacts.
    """

    name: str
    suffix: str

    def missing(self) -> str | None:
        """What to install before the engine can run, in a line; None if nothing is missing."""
        ...

    def version(self) -> str:
        """The engine's version, for manifests."""
        ...

    def write(
        self, network: Any, example: tuple[Any, ...], path: str | os.PathLike, names: Names, dynamic: Dynamic
    ) -> None:
        """Write a network.

        Args:
            network: An ``nn.Module`` in eval mode, on the CPU; or what `distill.engines.tracing.exported_program` has
                made of one, so that several engines share it.
            example: A tensor for each input. Where a size is dynamic, give one above 1 and unlike any size inside.
            path: The file, which ends in `suffix`.
            names: Of inputs and outputs.
            dynamic: Axes of any size.

        Raises:
            ValueError: The engine cannot write this network; the message says why.
        """
        ...

    def open(self, path: str | os.PathLike, threads: int | None = None, device: str = 'cpu') -> Session:
        """Open an artefact.

        Args:
            path: The file.
            threads: Threads of the engine, or None for its own choice.
            device: 'cuda' where the engine is built for it, else the CPU.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The engine is missing, or the file is no artefact of it or is one that is not safe to open.
        """
        ...


@runtime_checkable
class Converter(Protocol):
    """An engine whose artefacts are made of ONNX files, so that several such engines share one."""

    def convert(self, onnx: str | os.PathLike, path: str | os.PathLike, dynamic: Dynamic) -> None:
        """Write what an ONNX file holds.

        Args:
            onnx: The file to convert.
            path: The file to write.
            dynamic: Axes of any size.

        Raises:
            ValueError: The engine does not convert it.
        """
        ...


@runtime_checkable
class Transparent(Protocol):
    """An engine that can tell what is computed inside of an artefact."""

    def inner(
        self, path: str | os.PathLike, inputs: 'np.ndarray | Mapping[str, np.ndarray]', names: Sequence[str]
    ) -> 'dict[str, np.ndarray]':
        """Run an artefact, and keep values inside of it.

        Args:
            path: The file.
            inputs: As `Session.run` takes them.
            names: Of the values, which are those of the operations of torch's exported program.

        Returns:
            The values, of those that the artefact has.
        """
        ...


def by_name(name: str) -> Engine:
    """The engine of a name.

    Raises:
        ValueError: There is none.
    """
    if name not in MODULES:
        raise ValueError(f"engine '{name}' is unknown; choose from {', '.join(MODULES)}")
    return importlib.import_module(f'{__name__}.{MODULES[name]}').ENGINE


def by_suffix(path: str | os.PathLike) -> Engine:
    """The engine that runs a file, by its ending.

    Raises:
        ValueError: No engine runs such files.
    """
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ValueError(f"'{path}' is no artefact of an engine; those end in {', '.join(SUFFIXES)}")
    return by_name(SUFFIXES[suffix])


def is_artefact(path: str | os.PathLike) -> bool:
    """Whether a path ends as an artefact of an engine does."""
    return Path(path).suffix in SUFFIXES


def named_inputs(inputs: 'np.ndarray | Mapping[str, np.ndarray]', ports: Sequence[Port]) -> 'dict[str, np.ndarray]':
    """Inputs by name, checked against what an artefact takes.

    Args:
        inputs: The one input, or each input by name.
        ports: What the artefact takes.

    Raises:
        ValueError: A name, a shape or a type is another.
    """
    import numpy as np

    given = {ports[0].name: inputs} if isinstance(inputs, np.ndarray) else dict(inputs)
    names = [port.name for port in ports]
    if sorted(given) != sorted(names):
        raise ValueError(f'the inputs are {", ".join(given)}; the artefact takes {", ".join(names)}')
    for port in ports:
        array = given[port.name]
        fits = len(array.shape) == len(port.shape) and all(
            size in (None, found) for size, found in zip(port.shape, array.shape, strict=True)
        )
        if not fits or array.dtype != port.dtype:
            wanted = ', '.join('any' if size is None else str(size) for size in port.shape)
            raise ValueError(
                f"input '{port.name}' is {array.dtype} of {list(array.shape)}; the artefact takes {port.dtype} of "
                f'[{wanted}]'
            )
        given[port.name] = np.ascontiguousarray(array)
    return given
