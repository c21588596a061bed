"""Networks of a user's own, under names that a config and a record can hold.

A config is text: it cannot hold an `nn.Module`, and mmengine copies and dumps it several times a run. So a network is
kept here for as long as it is used, and the config has its name, ``own:PACKAGE.CLASS``. `build_model` gives the network
back by that name in this process; in another one, the error says what to do.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PREFIX = 'own:'


@dataclass
class OwnModel:
    """A network of a user's own, with what a timm model would tell of itself.

    Attributes:
        network: Any module whose ``forward`` takes normalised images [B, 3, H, W] and gives logits [B, K].
        mean: Mean of each channel, of values in [0, 1], that the network was trained with.
        std: Standard deviation of each channel, of values in [0, 1], that the network was trained with.
        classes: Names of the K classes, in the order of the logits, or None if nobody tells them.
        num_classes: The number K.
        input_size: The one height and width in pixels that the network is shown, or None if it takes any.
    """

    network: nn.Module
    mean: Sequence[float]
    std: Sequence[float]
    num_classes: int
    classes: list[str] | None = None
    input_size: tuple[int, int] | None = None


_kept: dict[str, OwnModel] = {}


@contextmanager
def kept(model: OwnModel) -> Iterator[str]:
    """Keep a network under a name for the time of a block.

    Yields:
        The name: ``own:``, the module and the name of the class, and a number where networks of one class are kept.
    """
    name = unique = class_name(model.network)
    while unique in _kept:
        unique = f'{name}#{sum(other.partition("#")[0] == name for other in _kept) + 1}'
    _kept[unique] = model
    try:
        yield unique
    finally:
        del _kept[unique]


def class_name(network: nn.Module) -> str:
    """The name that a record has for a network: ``own:`` and its class."""
    kind = type(network)
    return f'{PREFIX}{kind.__module__}.{kind.__qualname__}'


def is_own(name: object) -> bool:
    """Whether a name is one of a network of a user's own."""
    return isinstance(name, str) and name.startswith(PREFIX)


def is_kept(name: str) -> bool:
    """Whether this process has the network of a name."""
    return name in _kept


def find(name: str) -> OwnModel:
    """The network that is kept under a name.

    Raises:
        ValueError: None is, as in another process than the one that it was given to.
    """
    if name not in _kept:
        raise nameless(name)
    return _kept[name]


def nameless(name: str) -> ValueError:
    """The error about a name that leads to no network, which says how to come by one."""
    path = name.removeprefix(PREFIX).partition('#')[0]
    return ValueError(
        f"'{name}' is a network of a class of your own ({path}), which no name leads to; make it, and give it in "
        f'place of the name: network = {path.rpartition(".")[2]}(…); for weights of a file, '
        'network.load_state_dict(backbones.checkpoint.read_weights(FILE)), then backbones.load(network, mean=…, '
        'std=…, classes=…)'
    )


def copy_on_cpu(network: nn.Module) -> nn.Module:
    """A deep copy of a network whose tensors are on the CPU, wherever those of the network are.

    The copies of the tensors are made first, so that a copy never takes memory of an accelerator.
    """
    memo: dict[int, object] = {}
    with torch.no_grad():
        for parameter in network.parameters():
            memo[id(parameter)] = nn.Parameter(
                parameter.detach().to('cpu', copy=True), requires_grad=parameter.requires_grad
            )
        for buffer in network.buffers():
            memo[id(buffer)] = buffer.detach().to('cpu', copy=True)
    return copy.deepcopy(network, memo)


@contextmanager
def unaltered(network: nn.Module) -> Iterator[None]:
    """Leave a network as it was before the block: its tensors, where they are, modes, classes and gradients' flags.

    A block may move, freeze and convert the network; the tensors that it had are kept, and no copies are made here.
    """
    parameters = [(one, one.data, one.requires_grad) for one in network.parameters()]
    attributes = set(vars(network))
    modules = [
        (module, type(module), module.training, dict(module._parameters), dict(module._buffers))
        for module in network.modules()
    ]
    try:
        yield
    finally:
        for parameter, data, requires_grad in parameters:
            parameter.data = data
            parameter.requires_grad_(requires_grad)
        for name in vars(network).keys() - attributes:
            delattr(network, name)
        for module, kind, training, own_parameters, buffers in modules:
            module.__class__ = kind
            module.training = training
            module._parameters.update(own_parameters)
            module._buffers.update(buffers)


def count_classes(network: nn.Module, size: tuple[int, int], name: str) -> int:
    """Show a network a black image and count the logits.

    Args:
        network: The network, which stays as it is.
        size: Height and width of the image in pixels.
        name: Names the network in an error.

    Raises:
        ValueError: The network fails on the image, or its answer is no tensor [1, K].
    """
    tensor = next((one for one in network.parameters() if one.is_floating_point()), torch.zeros(1))
    image = torch.zeros(1, 3, *size, device=tensor.device, dtype=tensor.dtype)
    with unaltered(network), torch.no_grad():
        try:
            logits = network.eval()(image)
        except Exception as error:
            reason = ' '.join(str(error).split())
            raise ValueError(
                f'{name} does not take images [B, 3, {size[0]}, {size[1]}] ({type(error).__name__}: {reason}); '
                'give the size that it takes as input_size'
            ) from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f'{name} answers images with {shape}; wrap it, so that it gives logits [B, K] or embeddings')
    return logits.shape[1]
