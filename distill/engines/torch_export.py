"""torch's exported programs, ``.pt2``, which torch itself runs.

``torch.export.load`` unpickles, evaluates expressions and runs what the names in a file lead to. `distill.engines.pt2`
makes a clean copy of a file first, and torch is shown that one only.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.engines import Dynamic, Names, Port, Session, named_inputs
from distill.engines.installed import version_of
from distill.engines.pt2 import clean_copy
from distill.engines.tracing import exported_program

INSIDE = ('stack_trace', 'source_fn_stack', 'from_node', 'torch_fn')
"""What torch notes at each operation and nothing needs: it names the folders of the machine that exports."""


class TorchExport:
    """torch itself."""

    name = 'torch'
    suffix = '.pt2'

    def missing(self) -> str | None:
        """See `Engine.missing`."""
        return None

    def version(self) -> str:
        """See `Engine.version`."""
        return version_of('torch').partition('+')[0]

    def write(
        self, network: Any, example: tuple[Any, ...], path: str | os.PathLike, names: Names, dynamic: Dynamic
    ) -> None:
        """See `Engine.write`."""
        import torch

        program = exported_program(network, example, names, dynamic)
        program._example_inputs = None  # type: ignore[assignment]  # They would be pickled.
        for node in program.graph.nodes:
            for key in INSIDE:
                node.meta.pop(key, None)
        torch.export.save(program, os.fspath(path))

    def open(self, path: str | os.PathLike, threads: int | None = None, device: str = 'cpu') -> Session:
        """See `Engine.open`. torch has one pool of threads for all that a process runs."""
        return TorchSession(_read(path), threads, device)

    def inner(
        self, path: str | os.PathLike, inputs: np.ndarray | Mapping[str, np.ndarray], names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """See `Engine.inner`."""
        from distill.engines.tracing import values_of

        program = _read(path)
        session = TorchSession(program, None, 'cpu')
        given = named_inputs(inputs, session.inputs)
        return values_of(program, [given[port.name] for port in session.inputs], names)


class TorchSession:
    """An opened program of torch."""

    def __init__(self, program: Any, threads: int | None, device: str):
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self.threads, self.device = threads, device
        self.module = program.module(check_guards=False).to(device)
        placeholders = [node for node in program.graph.nodes if node.op == 'placeholder']
        self.inputs = tuple(_port(node) for node in placeholders if node.name in program.graph_signature.user_inputs)
        results = next(node for node in program.graph.nodes if node.op == 'output').args[0]
        self.outputs = tuple(_port(node) for node in results if node.name in program.graph_signature.user_outputs)

    def run(self, inputs: np.ndarray | Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """See `Session.run`."""
        import torch

        given = named_inputs(inputs, self.inputs)
        with torch.inference_mode():
            found = self.module(*(torch.from_numpy(given[port.name]).to(self.device) for port in self.inputs))
        tensors = [found] if isinstance(found, torch.Tensor) else list(found)
        return tuple(one.cpu().numpy() for one in tensors)


def _read(path: str | os.PathLike) -> Any:
    """Read a program from a clean copy of its file."""
    import torch

    if not Path(path).is_file():
        raise FileNotFoundError(f"model '{path}' does not exist; export it first or correct the path")
    copy = clean_copy(path)
    try:
        return torch.export.load(copy)
    # torch's errors about a damaged program have no class in common.
    except Exception as error:
        reason = str(error).partition('\n')[0]
        raise ValueError(f"'{path}' cannot be read by torch ({reason}); export it again") from None


def _port(node: Any) -> Port:
    value = node.meta['val']
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Port(node.name, shape, str(value.dtype).rpartition('.')[2])


ENGINE = TorchExport()
