"""A network as torch's exported program, which the engines start from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.engines import Dynamic, Names
from distill.engines.quiet import caught_output


def exported_program(network: Any, example: tuple[Any, ...], names: Names, dynamic: Dynamic) -> Any:
    """Export a network with torch.

    Args:
        network: An ``nn.Module`` in eval mode, on the CPU; or what this function has returned for it, which is
            returned again, so that several engines share it.
        example: A tensor for each input.
        names: Of inputs and outputs.
        dynamic: Axes of any size.

    Returns:
        ``torch.export.ExportedProgram``.

    Raises:
        ValueError: torch cannot export the network so; the message says why.
    """
    import torch

    if isinstance(network, torch.export.ExportedProgram):
        return network
    # Of a batch sizes from 1 on are stated; of the others torch finds out from where on they are possible.
    batches = {
        label: torch.export.Dim(label, min=1) for axes in dynamic.values() for axis, label in axes.items() if not axis
    }
    shapes = tuple(
        {axis: batches.get(label, torch.export.Dim.DYNAMIC) for axis, label in dynamic.get(name, {}).items()}
        for name in names.inputs
    )
    try:
        # torch logs what it could not solve on the way.
        with torch.no_grad(), caught_output():
            return torch.export.export(network, example, dynamic_shapes=shapes, strict=False)
    # torch's errors about what it cannot trace have no class in common.
    except Exception as error:
        lines = [line.strip(' -') for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if 'Not all values' in line or 'inferred' in line), (lines or [''])[0])
        raise ValueError(f'torch.export cannot trace it ({type(error).__name__}: {reason[:300]})') from error


def values_of(program: Any, inputs: Sequence[np.ndarray], names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """What the operations of an exported program give.

    Args:
        program: ``torch.export.ExportedProgram``.
        inputs: The inputs, in order.
        names: Operations to tell of; None for all.

    Returns:
        The tensors by the name of the operation, in order.
    """
    import torch

    found: dict[str, np.ndarray] = {}
    wanted = None if names is None else set(names)

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: Any) -> Any:
            value = super().run_node(n)
            if n.op == 'call_function' and isinstance(value, torch.Tensor) and (wanted is None or n.name in wanted):
                found[n.name] = value.detach().numpy().copy()
            return value

    held = {**program.state_dict, **program.constants}
    signature = program.graph_signature
    places = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    places.update(signature.inputs_to_lifted_tensor_constants)
    given = iter(inputs)
    arguments = [
        held[places[node.name]] if node.name in places else torch.from_numpy(next(given))
        for node in program.graph.nodes
        if node.op == 'placeholder'
    ]
    with torch.no_grad():
        Recorder(program.graph_module).run(*arguments)
    return found
