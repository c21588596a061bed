"""Networks that timm builds for one image size, fitted to any other.

timm builds the same model for both sizes, on the ``meta`` device: what differs between the two depends on the size.
"""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed, resample_abs_pos_embed_nhwc, resize_rel_pos_bias_table
from timm.models.nest import resize_pos_embed
from torch import Tensor, nn

__all__ = ['FittedNetwork']

Size = tuple[int, int]
Resampling = Callable[[Tensor], Tensor]
NOT_GEOMETRY = ('training', 'pretrained_cfg', 'default_cfg', 'attention_bias_cache')
"""Attributes of timm's modules that do not depend on the image size, or that hold values for one size."""

MOST_SIZES = 256
"""Sizes for which the differences are kept; to build a model without storage takes up to half a second."""


class FittedNetwork:
    """Fits a network to the size of each image; its weights and their names stay those of the size it was built for.

    Three things depend on the size. Plain attributes (grids, window sizes) become those of a model that timm builds for
    the new size. Buffers that are no part of the state dict (indices of relative positions) are filled by timm's own
    method. Parameters (position embeddings, biases of relative positions) are resampled where the network reads them,
    as timm resamples pretrained weights, and learn through the resampling.

    The network keeps the last size, so that the backward pass finds it where it recomputes activations.

    timm's BEiT, BoTNet, CaiT, CoaT, ConViT, EfficientFormerV2, GC ViT, Hiera, LeViT, NesT, PiT, TNT, Visformer, VOLO
    and ViTs with relative positions need it.

    Args:
        build: Builds the model of an image size (height, width) on the ``meta`` device.
        own: Size that the network is built for.
        other: A size of another height, width and area, to find the parameters that depend on the size.

    Raises:
        ValueError: Layers depend on the size, or a parameter or buffer for which there is no rule.
    """

    def __init__(self, build: Callable[[Size], nn.Module], own: Size, other: Size):
        self.own, self.other, self.size = own, other, own
        self._build = build
        reference = build(own)
        differing = build(other)
        first, second = dict(reference.named_modules()), dict(differing.named_modules())
        if first.keys() != second.keys():
            raise ValueError('its layers depend on the image size')
        self._reference = {name: _plain(module) for name, module in first.items()}
        self._buffers: dict[str, list[str]] = {}
        self._rules: dict[str, dict[str, Callable[[nn.Module, Size], Resampling]]] = {}
        for name, module in first.items():
            self._rules[name] = {}
            for key in _differing(module._parameters, second[name]._parameters):
                self._rules[name][key] = _rule(f'{name}.{key}'.strip('.'), module, second[name], own, other)
            self._buffers[name] = _differing(module._buffers, second[name]._buffers)
            for key in self._buffers[name]:
                in_state_dict = key not in module._non_persistent_buffers_set
                if in_state_dict or not hasattr(module, 'init_non_persistent_buffers'):
                    raise ValueError(f"there is no rule to fill its buffer '{name}.{key}'")
        self._changes: dict[Size, dict[str, _Changes]] = {
            own: self._changes_from(reference, own),
            other: self._changes_from(differing, other),
        }

    def attach(self, network: nn.Module) -> None:
        """Let parameters of a network be resampled; it has the size ``own`` and may lack layers after the last map."""
        self.size = self.own
        for name, module in network.named_modules():
            _resample_where_read(module, [k for k in self._rules.get(name, ()) if module._parameters[k] is not None])

    def fit(self, network: nn.Module, size: Size) -> None:
        """Fit the network of `attach` to images of a size (height, width)."""
        if size == self.size:
            return
        before = self._changes[self.size]
        if size not in self._changes:
            if len(self._changes) >= MOST_SIZES:
                self._changes = {self.own: self._changes[self.own]}
            self._changes[size] = self._changes_from(self._build(size), size)
        after = self._changes[size]
        modules = dict(network.named_modules())
        shared: dict[tuple, dict[str, Tensor | None]] = {}
        for name in modules.keys() & (before.keys() | after.keys()):
            module, changes = modules[name], after.get(name, _Changes())
            returning = before.get(name, _Changes()).plain.keys()
            module.__dict__.update({key: self._reference[name][key] for key in returning} | changes.plain)
            module.__dict__['resamplings'] = changes.resamplings
            if hasattr(module, 'attention_bias_cache'):
                module.attention_bias_cache = {}
            if changes.buffers:
                # Blocks with maps of one size share one copy of their indices, which are large.
                alike = type(module).__name__, repr(_plain(module))
                if alike not in shared:
                    shared[alike] = _filled(module, changes.buffers)
                module._buffers.update(shared[alike])
        self.size = size

    def _changes_from(self, fitted: nn.Module, size: Size) -> dict[str, '_Changes']:
        """What a model of a size has other than the reference, by the names of its modules; buffers in any case."""
        found = {}
        for name, module in fitted.named_modules():
            reference = self._reference[name]
            changes = _Changes(
                {key: value for key, value in _plain(module).items() if value != reference.get(key)},
                {key: module._buffers[key].shape for key in self._buffers[name]},  # type: ignore[union-attr]
            )
            if size != self.own:
                changes.resamplings = {key: rule(module, size) for key, rule in self._rules[name].items()}
            if changes.plain or changes.buffers or changes.resamplings:
                found[name] = changes
        return found


class _Changes:
    """What differs in a module at a size: plain attributes, shapes of buffers, and ways to resample parameters."""

    def __init__(self, plain: dict | None = None, buffers: dict | None = None):
        self.plain: dict[str, Any] = plain or {}
        self.buffers: dict[str, torch.Size] = buffers or {}
        self.resamplings: dict[str, Resampling] = {}


def _plain(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module that are numbers, strings, or lists, tuples and dicts of these."""
    attributes = module.__dict__.items()
    return {k: v for k, v in attributes if not k.startswith('_') and k not in NOT_GEOMETRY and _is_plain(v)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(v) for v in value.values())
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, int | float | str)


def _differing(first: dict, second: dict) -> list[str]:
    """The keys under which two modules hold tensors of different shapes."""
    return [key for key, value in first.items() if value is not None and value.shape != second[key].shape]


@torch.inference_mode(False)  # a later forward pass may need gradients
def _filled(module: nn.Module, shapes: dict[str, torch.Size]) -> dict[str, Tensor | None]:
    for key, shape in shapes.items():
        old: Any = module._buffers[key]
        module._buffers[key] = torch.zeros(shape, dtype=old.dtype, device=old.device)
    module.init_non_persistent_buffers()  # type: ignore[operator]
    return {key: module._buffers[key] for key in shapes}


def _resample_where_read(module: nn.Module, keys: list[str]) -> None:
    """Let the attributes of these names be resampled parameters; the parameters themselves stay where they are."""
    if keys:
        cls = type(module)
        members = {key: property(functools.partial(_resampled, key)) for key in keys}
        module.__class__ = type(cls.__name__, (cls,), {**members, '__module__': cls.__module__})
        module.__dict__['resamplings'] = {}


def _resampled(key: str, module: nn.Module) -> Tensor | None:
    parameter = module._parameters[key]
    resample = module.__dict__['resamplings'].get(key)
    return parameter if resample is None or parameter is None else resample(parameter)


# ---------------------------------------------------------------------------------------------------------------
# Rules: by the shape of a parameter, how it is resampled


def _rule(name: str, module: Any, second: nn.Module, own: Size, other: Size) -> Callable[..., Resampling]:
    """Choose how a parameter is resampled: a function of the fitted module and the image size."""
    key = name.rpartition('.')[2]
    old: Any = module._parameters[key]
    new: Any = second._parameters[key]
    dims = [d for d, (a, b) in enumerate(zip(old.shape, new.shape, strict=True)) if a != b]
    if key == 'relative_position_bias_table' and hasattr(module, 'window_size') and old.ndim == 2:
        return functools.partial(_table_rule, tuple(module.window_size))
    if key == 'attention_biases' and hasattr(module, 'resolution'):
        return functools.partial(_offsets_rule, tuple(module.resolution))
    if old.ndim == 3 and dims == [1]:
        pixels_per_token = (math.prod(own) - math.prod(other)) / (old.shape[1] - new.shape[1])
        return functools.partial(_tokens_rule, key, math.sqrt(pixels_per_token), own)
    if old.ndim == 4 and dims in ([1, 2], [2, 3]):
        return functools.partial(_grid_rule, key, dims)
    if old.ndim == 4 and dims == [2]:
        return functools.partial(_blocks_rule, key)
    if old.ndim == 2 and dims == [0]:
        return functools.partial(_line_rule, key)
    raise ValueError(f"there is no rule to resample its parameter '{name}' of shape {tuple(old.shape)}")


def _shape(module: nn.Module, key: str) -> torch.Size:
    return module._parameters[key].shape  # type: ignore[union-attr]


def _table_rule(window: Size, fitted: Any, size: Size) -> Resampling:
    """A bias for each difference of positions, and 3 for a class token [(2h-1)(2w-1) + 3, heads]: BEiT, GC ViT."""
    return functools.partial(_resample_table, window, tuple(fitted.window_size))


def _resample_table(old: Size, new: Size, table: Tensor) -> Tensor:
    if old == new:
        return table
    rows, columns = (2 * n - 1 for n in old)
    differences, tokens = table[: rows * columns].float(), table[rows * columns :]
    grid = differences.unflatten(0, (rows, columns))
    along_y, along_x = (_interpolation(*sides, device=table.device) for sides in zip(old, new, strict=True))
    grid = torch.einsum('ys,sth,xt->yxh', along_y, grid, along_x)
    return torch.cat([grid.flatten(0, 1).to(table.dtype), tokens])


@functools.lru_cache(maxsize=256)
@torch.inference_mode(False)  # a later forward pass may need gradients
def _interpolation(old: int, new: int, device: torch.device) -> Tensor:
    """timm's interpolation of a table along one axis as a matrix [2 · new - 1, 2 · old - 1].

    timm's function is linear, treats the axes alike, and works on the CPU head by head: too slow for each image.
    """
    length = 2 * old - 1
    units = torch.eye(length).repeat_interleave(length, dim=0)  # one row after the other of a table is set to 1
    window = new, old + 1  # timm leaves a table as it is if no side changes
    shape = ((2 * new - 1) * (2 * old + 1), length)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of timm's indexing
        table = resize_rel_pos_bias_table(units, new_window_size=window, new_bias_shape=shape)
    return table.unflatten(0, (2 * new - 1, 2 * old + 1))[:, 0].to(device)


def _offsets_rule(resolution: Size, fitted: Any, size: Size) -> Resampling:
    """A bias for each distance of positions [heads, h·w], as timm resamples TinyViT's: LeViT, EfficientFormerV2."""
    return functools.partial(_resample_offsets, resolution, tuple(fitted.resolution))


def _resample_offsets(old: Size, new: Size, biases: Tensor) -> Tensor:
    grid = biases.float().unflatten(1, old)[None]
    return F.interpolate(grid, size=new, mode='bicubic', antialias=True)[0].flatten(1).to(biases.dtype)


def _tokens_rule(key: str, stride: float, own: Size, fitted: Any, size: Size) -> Resampling:
    """An embedding for each token [1, class token + h·w, C]: BEiT, CaiT, ConViT, CrossViT, Hiera, TNT."""
    grid, own_grid = ([int(n / stride + 1e-6) for n in s] for s in (size, own))
    prefix = _shape(fitted, key)[1] - math.prod(grid)
    if not 0 <= prefix <= 2:
        raise ValueError(f'its tokens are no grid at {size[0]}×{size[1]} pixels')
    return functools.partial(resample_abs_pos_embed, new_size=grid, old_size=own_grid, num_prefix_tokens=prefix)


def _grid_rule(key: str, dims: list[int], fitted: Any, size: Size) -> Resampling:
    """An embedding for each position [1, h, w, C] or [1, C, h, w]: VOLO; PiT, Visformer."""
    return functools.partial(_resample_grid, [_shape(fitted, key)[d] for d in dims], dims == [1, 2])


def _resample_grid(grid: list[int], channels_last: bool, embedding: Tensor) -> Tensor:
    if channels_last:
        return resample_abs_pos_embed_nhwc(embedding, grid)
    return resample_abs_pos_embed_nhwc(embedding.permute(0, 2, 3, 1), grid).permute(0, 3, 1, 2)


def _blocks_rule(key: str, fitted: Any, size: Size) -> Resampling:
    """An embedding for each position of each block of a square image [1, blocks, h·w, C]: NesT."""
    return functools.partial(resize_pos_embed, posemb_new=fitted._parameters[key])


def _line_rule(key: str, fitted: Any, size: Size) -> Resampling:
    """A vector for each difference along one axis [2h-1, C], interpolated as in Segment Anything: BoTNet."""
    return functools.partial(_resample_line, _shape(fitted, key)[0])


def _resample_line(length: int, vectors: Tensor) -> Tensor:
    return F.interpolate(vectors.t()[None], size=length, mode='linear')[0].t()
