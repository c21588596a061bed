"""What terms on heads have in common: looking at a detector's heads, and running those of the teacher."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn

from distill.base.processes import rank_and_count
from distill.downstream.dense_terms.base import Call, Network, Pass


def check_factors(name: str, **factors: float) -> None:
    """Refuse a term all of whose parts have a factor of 0, or one below.

    Raises:
        ValueError: There is nothing to compute.
    """
    if any(factor < 0 for factor in factors.values()) or not any(factors.values()):
        given = ', '.join(f'{part}={factor}' for part, factor in factors.items())
        raise ValueError(f'loss {name} has {given}; give factors of at least 0, one of them above it')


def the_module(network: Network, name: str, types: Sequence[str], loss: str) -> Any:
    """A head of a detector, of one of these classes or made from them.

    Args:
        network: The detector.
        name: The head's attribute.
        types: Names of classes.
        loss: Name of the loss, for the message.

    Raises:
        ValueError: The detector has no such head.
    """
    head = getattr(network.detector, name, None)
    if not isinstance(head, nn.Module) or not any(base.__name__ in types for base in type(head).__mro__):
        has = f'a {type(head).__name__} there' if isinstance(head, nn.Module) else 'none'
        raise ValueError(
            f'loss {loss} needs a {name} of the kind {" or ".join(types)}, and {network.name} has {has}; '
            "compare its maps instead, for example dict(type='pkd', on='neck')"
        )
    return head


def same_coder(student: Any, teacher: Any, loss: str, place: str) -> None:
    """Boxes' deltas can be compared only where both heads encode boxes alike.

    Raises:
        ValueError: The coders differ.
    """
    mine, its = ((type(c).__name__, getattr(c, 'means', None), getattr(c, 'stds', None)) for c in (student, teacher))
    if mine != its:
        raise ValueError(
            f'loss {loss} compares box deltas, which the {place} of the student and of the teacher encode differently: '
            f'{mine[0]} with means {mine[1]} and stds {mine[2]}, {its[0]} with {its[1]} and {its[2]}; set boxes=0'
        )


@contextlib.contextmanager
def in_precision_of(x: Tensor) -> Iterator[None]:
    """Run a head on maps of half precision, as training under autocast makes them, in the same precision."""
    half = x.dtype in (torch.float16, torch.bfloat16)
    with torch.autocast(x.device.type, dtype=x.dtype if half else None, enabled=half):
        yield


def of_teacher(teacher: Pass, name: str, run: Callable[[], Any]) -> Any:
    """What a head of the teacher says about this batch; several terms that ask for the same get one run.

    Args:
        teacher: The teacher's run, in whose `Pass.calls` the output is kept.
        name: What is asked for.
        run: Gives the output; it is called without gradients, in the precision of the teacher's maps.

    Returns:
        The output.
    """
    if name not in teacher.calls:
        with torch.no_grad(), in_precision_of(first_tensor(teacher.features)):
            teacher.calls[name] = [Call((), run())]
    return teacher.calls[name][0].output


def over_processes(losses: Mapping[str, tuple[Tensor, Tensor | float]]) -> dict[str, Tensor]:
    """Make means over the items of this process what they are part of: means over the items of all processes.

    Each is multiplied by its count over the mean count of the processes. The mean of the losses (and of the gradients,
    as DDP takes it) over the processes is then that of one process with the whole batch, although one of them has more
    proposals or labelled pixels than the other. In a single process nothing changes.

    Args:
        losses: For each name, the same in all processes, the mean and the number (or weight) of what it is over.

    Returns:
        Losses by name.
    """
    processes = rank_and_count()[1]
    if processes == 1 or not losses:
        return {name: loss for name, (loss, _) in losses.items()}
    loss, _ = next(iter(losses.values()))
    counts = torch.stack([torch.as_tensor(count, device=loss.device).float().detach() for _, count in losses.values()])
    total = counts.clone()
    distributed.all_reduce(total)
    shares = counts * processes / total.clamp(min=torch.finfo(torch.float32).eps)
    return {name: loss * share for (name, (loss, _)), share in zip(losses.items(), shares, strict=True)}


def first_tensor(features: Any) -> Tensor:
    """The first map of what ``extract_feat`` has returned."""
    return features if isinstance(features, Tensor) else features[0]


def only_call(run: Pass, name: str, loss: str) -> Call:
    """The call of a watched module in the student's run.

    Raises:
        RuntimeError: The module was not called once.
    """
    calls = run.calls.get(name, [])
    if len(calls) != 1:
        raise RuntimeError(f'loss {loss} expects one call of {name} in a step, and there were {len(calls)}')
    return calls[0]
