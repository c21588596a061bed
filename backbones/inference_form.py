"""The inference form of any timm model: a copy in which what only training needs is gone.

Parallel branches are one kernel, each batch norm is in the convolution or linear layer before it, a layer scale is in
the layer that it scales, and drop path and dropout are gone. The copy has other keys than the model: export it, and
keep the model. `backbones.deploy` makes the plain form of a Robust-ResNet, which has the keys of a released one.

Which layer a norm follows is observed while the model runs once, so that it holds for any family and needs no tracing.
The copy is compared with the model on another image, and a fold that does not hold there is not kept.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers import (
    BatchNormAct2d,
    Conv2dSame,
    DropBlock2d,
    DropPath,
    FrozenBatchNormAct2d,
    LayerScale,
    LayerScale2d,
    PatchDropout,
    SyncBatchNormAct,
)
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

from backbones.checkpoint import fixed_size
from backbones.layers.depthwise import DepthwiseConv2d
from backbones.layers.reparam import norm_scale_and_shift, scale_output

LINEAR = (nn.Conv1d, nn.Conv2d, nn.Linear, Conv2dSame, DepthwiseConv2d)
"""Layers that are linear in their weight and bias, by exact type: a subclass may standardise its weight first."""
AFFINE_NORMS = (nn.LayerNorm, nn.GroupNorm)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, BatchNormAct2d, SyncBatchNormAct, FrozenBatchNormAct2d)
"""By exact type, as a subclass may do more."""
SCALES = (LayerScale, LayerScale2d)
TRAINING_ONLY = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, DropPath, DropBlock2d, PatchDropout)
SHORTCUTS = ('shortcut', 'downsample')
TOLERANCE = 1e-5
"""How far outputs may lie apart, relative to the largest."""


@dataclass(frozen=True)
class InferenceForm:
    """A network without what only training needs.

    Attributes:
        network: In eval mode, on the device and in the type of the model.
        steps: What was done, a line each.
        difference: The largest difference of an output on images that no layer was observed on, relative to the largest
            output.
    """

    network: nn.Module
    steps: tuple[str, ...]
    difference: float


@torch.no_grad()
def inference_form(model: nn.Module, size: Sequence[int] | None = None) -> InferenceForm:
    """The inference form of a model, which stays as it is.

    Args:
        model: A timm model, trained or not.
        size: Height and width in pixels of the images on which layers are observed; None takes the model's own.

    Raises:
        ValueError: A norm takes its statistics from the batch, or the form does not equal the model.
    """
    like = next(model.parameters())
    config: Any = getattr(model, 'pretrained_cfg', None) or {}
    channels, *own_size = config.get('input_size', (3, *(size or ())))
    height, width = size or fixed_size(model) or own_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, channels, height, width, generator=generator).to(like.device, like.dtype)
    reference = copy.deepcopy(model).eval()
    expected = reference(images[1:])
    network = reparameterize_model(copy.deepcopy(reference), inplace=True)
    steps = ['parallel branches fused'] if len(list(network.modules())) < len(list(reference.modules())) else []
    dropped = _replace(network, TRAINING_ONLY)
    steps += [f'dropout and drop path removed: {dropped}'] if dropped else []
    network(images[:1])  # Some models build tables on their first image.
    kept = _apply(network, _observe(network, images[:1]), images[1:], expected)
    steps += [f'{kind} folded: {count}' for kind, count in Counter(fold.kind for fold in kept).items()]
    difference = _difference(network(images[1:]), expected)
    if not difference <= TOLERANCE:
        raise ValueError(
            f'the inference form of {type(model).__name__} differs from the model by {difference:.1e} of the largest '
            f'output, more than {TOLERANCE:.0e}; export the model as it is'
        )
    return InferenceForm(network, tuple(steps), difference)


@dataclass
class _Fold:
    """A layer that scales and shifts each channel, and the layer before it, which can do the same.

    Attributes:
        kind: Name of what is folded.
        layer: Takes the scale and the shift.
        owner: The module that holds what is folded.
        name: Its attribute there.
        rest: What takes its place.
    """

    kind: str
    layer: Any
    owner: nn.Module
    name: str
    rest: nn.Module | None
    before: tuple = field(default=(), repr=False)

    def apply(self) -> None:
        """Move the scale and the shift into the layer."""
        folded: Any = getattr(self.owner, self.name)
        self.before = folded, self.layer.weight, self.layer.bias
        if type(folded) in BATCH_NORMS:
            scale, shift = norm_scale_and_shift(folded)
        else:
            scale = (folded if isinstance(folded, Tensor) else folded.gamma).flatten()
            shift = torch.zeros_like(scale)
        weight, bias = scale_output(self.layer.weight, self.layer.bias, scale, shift)
        self.layer.weight, self.layer.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
        setattr(self.owner, self.name, self.rest)

    def undo(self) -> None:
        """Give both layers back what they had."""
        folded, self.layer.weight, self.layer.bias = self.before
        setattr(self.owner, self.name, folded)


def _apply(network: nn.Module, folds: list[_Fold], images: Tensor, expected: Tensor) -> list[_Fold]:
    """Apply folds; returns those that are kept, all of them unless the outputs are then others."""
    for fold in folds:
        fold.apply()
    if _difference(network(images), expected) <= TOLERANCE:
        return folds
    for fold in reversed(folds):
        fold.undo()
    kept = []
    for fold in folds:
        fold.apply()
        if _difference(network(images), expected) <= TOLERANCE:
            kept.append(fold)
        else:
            fold.undo()
    return kept


class _Observer:
    """What calls what while a network runs: finds the folds."""

    def __init__(self, network: nn.Module):
        self.places = {module: (owner, name) for owner in network.modules() for name, module in owner.named_children()}
        self.makers: dict[tuple, nn.Module] = {}
        self.outputs: list[Tensor] = []  # They stay alive, so that no other tensor comes to lie in their place.
        self.called: list[Any] = []
        self.starts: dict[nn.Module, int] = {}
        self.normed: dict[nn.Module, nn.Module] = {}
        self.folds: list[_Fold] = []

    def before(self, module: nn.Module, arguments: tuple) -> None:
        """See whose output a norm or a layer scale takes."""
        self.starts[module] = len(self.called)
        maker = self.makers.get(_identity(arguments[0])) if arguments and isinstance(arguments[0], Tensor) else None
        if maker is None or module not in self.places:
            return
        if type(module) in BATCH_NORMS and type(maker) in LINEAR:
            activation = getattr(module, 'act', None)
            self.folds.append(_Fold('batch norms', maker, *self.places[module], activation or nn.Identity()))
            self.normed[module] = maker
        elif isinstance(module, SCALES):
            self.folds.append(_Fold('layer scales', maker, *self.places[module], nn.Identity()))

    def after(self, module: nn.Module, arguments: tuple, output: Any) -> None:
        """Remember who made a tensor, and see which layer the scale of a block follows."""
        if isinstance(output, Tensor) and type(module) in LINEAR + AFFINE_NORMS:
            self._made(output, module)
        elif module in self.normed and isinstance(getattr(module, 'act', None), (nn.Identity, type(None))):
            self._made(output, self.normed[module])
        gamma = getattr(module, 'gamma', None)
        if isinstance(gamma, nn.Parameter) and not isinstance(module, SCALES):
            inside = [one for one in self.called[self.starts[module] :] if one.weight.shape[0] == len(gamma)]
            shortcuts = [part for name in SHORTCUTS if isinstance(part := getattr(module, name, None), nn.Module)]
            beside = {part for shortcut in shortcuts for part in shortcut.modules()}
            path = [one for one in inside if one not in beside]
            if path:
                self.folds.append(_Fold('layer scales', path[-1], module, 'gamma', None))

    def _made(self, output: Tensor, module: nn.Module) -> None:
        self.outputs.append(output)
        self.makers[_identity(output)] = module
        self.called.append(module)


def _observe(network: nn.Module, images: Tensor) -> list[_Fold]:
    """Find the folds: run the network, and see whose output each norm and each layer scale takes."""
    observer = _Observer(network)
    handles = [module.register_forward_pre_hook(observer.before) for module in network.modules()]
    handles += [module.register_forward_hook(observer.after) for module in network.modules()]
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    calls = Counter(one for one in observer.called if one not in observer.normed.values())
    return [fold for fold in observer.folds if calls[fold.layer] <= 1]


def _identity(tensor: Tensor) -> tuple:
    """Equal for a tensor that is handed on, and another one once it was changed in place."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor._version


def _replace(network: nn.Module, kinds: tuple[type, ...]) -> int:
    """Replace modules by identities; returns how many."""
    found = [
        (owner, name)
        for owner in network.modules()
        for name, module in owner.named_children()
        if isinstance(module, kinds)
    ]
    for owner, name in found:
        setattr(owner, name, nn.Identity())
    return len(found)


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected value; infinite where a value is not finite."""
    difference = (found - expected).abs().max() / expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    return float(difference) if torch.isfinite(found).all() else float('inf')
