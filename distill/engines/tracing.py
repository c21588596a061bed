"""A network as torch's exported program, which the engines start from."""

from typing import Any

from distill.engines import Dynamic, Names


def exported_program(network: Any, example: tuple[Any, ...], names: Names, dynamic: Dynamic) -> Any:
    """Export a network with torch.

    Args:
        network: An ``nn.Module`` in eval mode, on the CPU.
        example: A tensor for each input.
        names: Of inputs and outputs.
        dynamic: Axes of any size.

    Returns:
        ``torch.export.ExportedProgram``.

    Raises:
        ValueError: The network cannot be exported; the message says why.
    """
    import torch

    # Of a batch, sizes from 1 on are stated; of the others torch finds out from where on they are possible.
    batches = {
        label: torch.export.Dim(label, min=1) for axes in dynamic.values() for axis, label in axes.items() if not axis
    }
    shapes = tuple(
        {axis: batches.get(label, torch.export.Dim.DYNAMIC) for axis, label in dynamic.get(name, {}).items()}
        for name in names.inputs
    )
    with torch.no_grad():
        return torch.export.export(network, example, dynamic_shapes=shapes, strict=False)
