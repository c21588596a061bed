"""ExecuTorch's programs, which run on XNNPACK: made of torch's exported program.

The batch is fixed, because ExecuTorch plans the memory of a run when it writes the file.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill.engines import Dynamic, Names, Port, Session, named_inputs
from distill.engines.installed import missing_modules, version_of
from distill.engines.quiet import caught_output, last_line
from distill.engines.tracing import exported_program

TYPES = {0: 'uint8', 1: 'int8', 3: 'int32', 4: 'int64', 5: 'float16', 6: 'float32', 7: 'float64', 11: 'bool'}
"""torch's numbers of types."""


class ExecuTorch:
    """ExecuTorch with XNNPACK on the CPU."""

    name = 'executorch'
    suffix = '.pte'

    def missing(self) -> str | None:
        """See `Engine.missing`."""
        return missing_modules('executorch', 'executorch')

    def version(self) -> str:
        """See `Engine.version`."""
        return version_of('executorch')

    def write(
        self, network: Any, example: tuple[Any, ...], path: str | os.PathLike, names: Names, dynamic: Dynamic
    ) -> None:
        """See `Engine.write`."""
        if any(dynamic.values()):
            raise ValueError('ExecuTorch plans memory when it writes a file; give it fixed sizes')
        program = exported_program(network, example, names, dynamic)
        with caught_output():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        Path(path).write_bytes(lowered.buffer)

    def open(self, path: str | os.PathLike, threads: int | None = None, device: str = 'cpu') -> Session:
        """See `Engine.open`. ExecuTorch has one pool of threads for all that a process opens."""
        lacking = missing_modules('executorch', 'executorch')
        if lacking:
            raise ValueError(f"'{path}' needs {lacking}")
        if not Path(path).is_file():
            raise FileNotFoundError(f"model '{path}' does not exist; export it first or correct the path")
        return ExecuTorchSession(path, threads)


class ExecuTorchSession:
    """An opened program of ExecuTorch."""

    def __init__(self, path: str | os.PathLike, threads: int | None):
        with caught_output() as said:
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime, Verification

            try:
                if threads is not None:
                    portable_lib._unsafe_reset_threadpool(threads)
                self.program = Runtime.get().load_program(
                    os.fspath(path), verification=Verification.InternalConsistency
                )
                self.method = self.program.load_method('forward')
            except RuntimeError as error:
                reason = last_line(said()).partition('] ')[2] or error
                raise ValueError(f"'{path}' cannot be read by ExecuTorch ({reason}); export it again") from None
        meta = self.method.metadata
        self.threads = threads
        self.inputs = tuple(
            _port(f'input_{index}', meta.input_tensor_meta(index)) for index in range(meta.num_inputs())
        )
        self.outputs = tuple(
            _port(f'output_{index}', meta.output_tensor_meta(index)) for index in range(meta.num_outputs())
        )

    def run(self, inputs: np.ndarray | Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        """See `Session.run`."""
        import torch

        given = named_inputs(inputs, self.inputs)
        found = self.method.execute([torch.from_numpy(given[port.name]) for port in self.inputs])
        # The memory of the outputs is that of the next run, too.
        return tuple(one.numpy().copy() for one in found)


def _port(name: str, info: Any) -> Port:
    return Port(name, tuple(info.sizes()), TYPES.get(info.dtype(), str(info.dtype())))


ENGINE = ExecuTorch()
